"""Agents at once in one worker process, against a local model server: ``python -m benchmarks.agents``."""

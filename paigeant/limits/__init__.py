"""What a step takes before it runs: how it is named and counted. Nothing here is held: see ``runner.locks``."""

from __future__ import annotations

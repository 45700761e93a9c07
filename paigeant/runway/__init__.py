"""The names of the documents paigeant was built from, thin over App and Worker: agents line up on a runway.

A :class:`WorkflowDispatcher` is a draft of a workflow with an App behind it; a :class:`PaigeantAgent` is an agent that
knows its dispatcher; an :class:`ActivityExecutor` is a Worker for one activity.
"""

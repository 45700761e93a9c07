"""How facts name a step, and a run of it."""

from __future__ import annotations

from paigeant.events import StepEnded
from paigeant.wire.slip import Heading


def step_label(step: str, heading: str) -> str:
    """A step's id; a step and its compensation are two."""
    return step if heading == Heading.FORWARD else f"{step} ({heading})"


def run_label(end: StepEnded) -> str:
    """The run of a step that ended like this: the worker, its delivery, and its times in seconds."""
    return f"{end.worker} {end.deliveries} {end.started_at!r} {end.at!r}"

"""Logs how a step ended."""

from __future__ import annotations

from logging import DEBUG, WARNING

import structlog

from paigeant.decisions.outcome import (
    Cancelled,
    Completed,
    Dropped,
    Exhausted,
    Faulted,
    Outcome,
    Parked,
    Poisoned,
    Refused,
    Retrying,
    Returned,
)

log = structlog.stdlib.get_logger("paigeant.runner")


def log_outcome(outcome: Outcome) -> None:
    """Write one log line. The context already contains the step."""
    match outcome:
        case Completed(execution=ran):
            log.info("step completed", seconds=round(ran.finished_at - ran.started_at, 3))
        case Parked(key=key, due_at=due_at):
            log.info("step parked", waits_for=key, due_at=due_at)
        case Cancelled(cancellation=cancellation, ran=ran):
            log.info("step stopped" if ran else "step not started", reason=str(cancellation))
        case Dropped(reason=reason):
            log.info("step discarded", reason=reason)
        case Retrying(error=error, delay=delay):
            log.warning("step failed, will be retried", error_type=error.type, delay=round(delay, 3))
        case Exhausted(error=error):
            log.error("step failed and waits for an operator", error_type=error.type)
        case Faulted(error=error) | Refused(error=error):
            log.error("step failed", error_type=error.type)
        case Poisoned():
            log.error("step became a dead letter: it ran repeatedly and never ended")
        case Returned(reason=reason, delay=delay, is_usual=is_usual):
            log.log(DEBUG if is_usual else WARNING, "step returned to its queue", reason=reason, delay=delay)

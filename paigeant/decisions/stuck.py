"""Decides whether a step that is recorded as completed has stopped its workflow, because nothing follows. Pure.

A worker records the end of a step and the messages that follow it in one transaction. A "completed" row without
successor is therefore not the work of a worker: somebody has written to the database.
"""

from __future__ import annotations

from collections.abc import Iterable

from paigeant.records.workflow import Status, StepRecord, WorkflowRecord
from paigeant.wire.message import PaigeantMessage

_FOLLOWED_BY_ITSELF = frozenset({"parked", "retried"})
"""The statuses of attempts after which the same step runs again."""


def is_stuck(message: PaigeantMessage, record: WorkflowRecord | None) -> bool:
    """Whether the workflow is running, and no step has started after this message's step.

    The caller has found no message that follows this one, that waits in the store, or that is a dead letter.
    """
    if record is None or record.status is not Status.RUNNING or record.cancellation is not None:
        return False
    if message.routing_slip.is_back:
        return False
    own = next((step for step in record.steps if step.message_id == message.id), None)
    return own is not None and own.status == "completed" and not any(_later(message, record.steps))


def _later(message: PaigeantMessage, attempts: Iterable[StepRecord]) -> Iterable[StepRecord]:
    """Return the attempts that this message's step may have led to."""
    slip = message.routing_slip
    before = {entry.id for entry in slip.log} | {fault.step for fault in slip.failed}
    for one in attempts:
        if one.message_id in (None, message.id) or one.id in before:
            continue
        is_earlier = one.id == message.step.id and (one.attempt < message.attempt or one.status in _FOLLOWED_BY_ITSELF)
        if not is_earlier:
            yield one

"""Steps that programs in other languages completed: only the log of a message has them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from itertools import takewhile

from paigeant.events import StepCompleted
from paigeant.wire.ids import derive_message_id
from paigeant.wire.join import KEY as JOIN
from paigeant.wire.log import LogEntry
from paigeant.wire.message import PaigeantMessage

WORKER = "another program"
"""Who completed a step of which the log does not say it."""

_HEADING = "foreign"
"""Distinguishes the ids of the records of such steps from the ids of our messages."""


def unrecorded(message: PaigeantMessage) -> tuple[LogEntry, ...]:
    """The latest entries of the log that no worker of ours wrote, as they lack a source; oldest first.

    A branch begins with entries of the workflow that began it, which are not its own; and what branches did is theirs.
    """
    slip = message.routing_slip
    if slip.is_back or message.branch is not None:
        return ()
    latest = takewhile(lambda entry: entry.source is None and not entry.id.startswith(JOIN), reversed(slip.log))
    return tuple(reversed(tuple(latest)))


def completed(message: PaigeantMessage, done: Collection[str], at: float) -> Iterator[StepCompleted]:
    """The facts about those of them whose steps, by id, are not known to be done; ``at`` where the log says no time.

    What the variables are after the last of them is all that is known of what they changed.
    """
    new = [entry for entry in unrecorded(message) if entry.id not in done]
    for entry in new:
        variables = message.routing_slip.variables if entry is new[-1] else None
        ids = (message.correlation_id, entry.id, _HEADING, entry.attempt, message.epoch)
        yield StepCompleted(
            correlation_id=message.correlation_id,
            at=_seconds(entry.finished_at, at),
            message_id=derive_message_id(*ids),
            step_id=entry.id,
            activity=entry.name,
            attempt=entry.attempt,
            worker=entry.worker or WORKER,
            deliveries=1,
            started_at=_seconds(entry.started_at, at),
            output=entry.output,
            variables=variables,
            changes=None if variables is None else {"set": variables, "deleted": []},
        )


def with_sources(message: PaigeantMessage, recorded: Iterable[StepCompleted]) -> PaigeantMessage:
    """The message whose log says where the outputs of these steps are recorded now."""
    sources = {fact.step_id: fact.message_id for fact in recorded}
    slip = message.routing_slip
    log = tuple(
        entry.model_copy(update={"source": sources[entry.id]}) if entry.id in sources else entry for entry in slip.log
    )
    return message.model_copy(update={"routing_slip": slip.model_copy(update={"log": log})})


def _seconds(moment: datetime | None, now: float) -> float:
    """Epoch seconds, none of them in the future; a time without a zone counts as UTC."""
    if moment is None:
        return now
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return min(max(aware.timestamp(), 0.0), now)

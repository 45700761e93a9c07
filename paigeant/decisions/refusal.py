"""Decides why a message is refused before its step runs, and what it becomes. Pure.

A refused message changes nothing of the workflow that it names: what it says is a stranger's claim. It becomes a dead
letter, and an operator decides what follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from paigeant.errors import (
    ClaimsTooMuch,
    ForeignQueue,
    ForeignValue,
    MalformedMessage,
    MessageError,
    MessageTooLarge,
    TokenRefused,
    UnsupportedVersion,
)
from paigeant.events import LetterKind
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec, RoutingSlip

_CODES: dict[type[MessageError], tuple[LetterKind, str]] = {
    MalformedMessage: (LetterKind.UNREADABLE, "unreadable"),
    MessageTooLarge: (LetterKind.REFUSED, "too-large"),
    UnsupportedVersion: (LetterKind.REFUSED, "version"),
    TokenRefused: (LetterKind.UNTRUSTED, "token"),
    ClaimsTooMuch: (LetterKind.UNTRUSTED, "grant"),
    ForeignValue: (LetterKind.UNTRUSTED, "value"),
    ForeignQueue: (LetterKind.UNTRUSTED, "queue"),
}

DISTRUSTED = (TokenRefused, ClaimsTooMuch, ForeignValue, ForeignQueue)
"""Errors with which a worker refuses a message that it can read."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message is refused: the kind of its dead letter, a code for programs, and the reason for people."""

    kind: LetterKind
    code: str
    reason: str

    @classmethod
    def of(cls, error: MessageError) -> Refusal:
        """Return the refusal for this error."""
        kinds = (found for known, found in _CODES.items() if isinstance(error, known))
        kind, code = next(kinds, (LetterKind.REFUSED, "refused"))
        return cls(kind, code, f"{type(error).__name__}: {error}")


# --- what a message claims -------------------------------------------------------------------------------------------


def refuse_beyond_grant(message: PaigeantMessage) -> None:
    """Raise an error if the message says that more was inserted than its own grant allows.

    Every worker checks a step's insertions before it publishes the next message, so no worker published this one.

    Raises:
        ClaimsTooMuch: the error says what is too much.
    """
    if (text := _beyond_grant(message.routing_slip)) is not None:
        raise ClaimsTooMuch(f"the message is outside its own grant: {text}")


def _beyond_grant(slip: RoutingSlip) -> str | None:
    if slip.is_back:
        return None
    grant = slip.grant
    if (number := sum(slip.inserted.values())) > grant.steps:
        return f"{number} steps were inserted, and {grant.steps} may be"
    for editor, count in slip.inserted.items():
        allowance = grant.allowances.get(editor)
        if allowance is not None and count > allowance.steps:
            return f"{editor!r} inserted {count} steps, and {allowance.steps} may be"
    for step in slip.itinerary:
        if step.depth > grant.depth:
            return f"step {step.name!r} is {step.depth} deep, and {grant.depth} is the limit"
        if step.depth and grant.activities is not None:
            for name in step.activities:
                if name not in grant.activities:
                    return f"{name!r} was inserted, and may not be"
    return None


def queues_in(slip: RoutingSlip) -> Iterator[tuple[str, str]]:
    """Yield each queue that the slip names, with the step that runs there.

    A worker publishes what follows to one of them: the next step, a retry, a branch, or a compensation.
    """
    yield from _queues_of(slip.itinerary)
    for entry in slip.log:
        if entry.undo is not None and entry.undo.queue is not None:
            yield entry.undo.queue, entry.name


def _queues_of(steps: Iterable[ActivitySpec]) -> Iterator[tuple[str, str]]:
    for step in steps:
        if step.queue is not None:
            yield step.queue, step.name
        for slip in step.branches:
            yield from queues_in(slip)
        yield from _queues_of(step.otherwise)


def is_of(queue: str, prefixes: Iterable[str]) -> bool:
    """Whether the queue belongs to an App with one of these queue prefixes."""
    return any(queue.startswith(f"{prefix}.") for prefix in prefixes)

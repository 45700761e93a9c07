"""The arguments of ``lua/exchange.lua``, and its answer. A stream may contain anything that other programs wrote."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from paigeant.transport import Delivery, Lease, Outgoing, Term
from paigeant.transports.channel.routes import Letter
from paigeant.transports.pump.settlement import Settlement
from paigeant.wire import strict_json

_tokens = itertools.count(1)
"""Each claim has its own: the same message, released and claimed again, is another delivery."""

_NOT_HELD = -1


class Verdict(IntEnum):
    """The result of one settlement."""

    REFUSED = 0
    ACCEPTED = 1
    NO_ROOM = 2
    """Redis is full, and the settlement publishes more than it frees. Nothing was done."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed message. ``is_late``: it has expired."""

    delivery: Delivery
    is_late: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of an exchange.

    ``lost``: the holder is not known any more, all its leases are lost. ``due_in`` are the seconds until the next
    delayed message; ``expired`` is how many messages have expired that nobody holds; ``aside`` says what was set aside.
    ``is_part``: more had to be made due or freed than one call may; ``older``: how many delayed messages are kept as an
    older release does.
    """

    lost: bool
    accepted: Sequence[Verdict]
    claims: Sequence[Claim]
    due_in: float
    expired: int
    mark: bytes
    aside: Sequence[str]
    is_part: bool
    older: int


def letters(settlement: Settlement) -> list[Letter]:
    """Return the messages that a settlement publishes."""
    return [(one, settlement.expires) for one in settlement.outgoing]


def arguments(
    names: Sequence[str],
    doubts: Sequence[str],
    settlements: Sequence[tuple[Settlement, Sequence[Letter]]],
    is_held: Callable[[Delivery], bool],
) -> list[Any]:
    """Return the script's arguments from the queues on. ``doubts`` are keys of settlements whose answer was lost."""
    found: list[Any] = [len(names), *names, len(doubts), *doubts, len(settlements)]
    for settlement, published in settlements:
        found += _settlement(settlement, published, is_held)
    return found


def keys(settlement: Settlement) -> list[str]:
    """Return the keys under which the server remembers that a settlement was made."""
    if settlement.delivery is not None:
        return [str(settlement.delivery.token)]
    return [f"sent {one.id}" for one in settlement.outgoing if one.id]


def _settlement(settlement: Settlement, published: Sequence[Letter], is_held: Callable[[Delivery], bool]) -> list[Any]:
    parts = [*_about(settlement, is_held), len(published)]
    for one, expires in published:
        parts += _outgoing(one, expires)
    return parts


def _about(settlement: Settlement, is_held: Callable[[Delivery], bool]) -> list[Any]:
    """Return kind, stream, entry, count, token, id, delay, and whether it may have been made before."""
    delivery, release = settlement.delivery, settlement.release_after
    if delivery is None:
        return ["send", "", "", 0, "", "", 0, int(settlement.tried)]
    stream, entry, count = delivery.tag
    kind = "expire" if count == 0 else "ack" if release is None else "release"
    count = count if is_held(delivery) else _NOT_HELD
    delay = int((release or 0.0) * 1000)
    return [kind, stream, entry, count, delivery.token, delivery.id or "", delay, int(settlement.tried)]


def _outgoing(one: Outgoing, expires: float | None) -> list[Any]:
    headers = json.dumps(dict(one.headers)) if one.headers else "{}"
    lasts = -1 if expires is None else int(expires * 1000)
    return [one.queue, one.id or "", one.body, headers, int(one.delay * 1000), one.priority, lasts]


def reply(found: Sequence[Any], term: Term | None = None) -> Reply:
    """Parse the script's answer. ``term`` is how long the leases of this process hold."""
    lost, accepted, claims, due, expired, mark, aside, is_part, older = found
    return Reply(
        lost=bool(lost),
        accepted=[Verdict(one) for one in accepted],
        claims=[claim(one, term) for one in claims],
        due_in=due / 1000 if due >= 0 else math.inf,
        expired=expired,
        mark=mark,
        aside=[_text(one) for one in aside],
        is_part=bool(is_part),
        older=older,
    )


def claim(found: Sequence[Any], term: Term | None = None) -> Claim:
    """Parse a claimed entry. Its tag is the stream, the entry, and the number of its claims: 0 without a holder.

    One that is no message of ours is handed out with its fields as the body: its reader refuses it and sets it aside,
    with what it was.
    """
    queue, stream, entry, count, deliveries, again, late, *pairs = found
    fields = dict(zip(pairs[::2], pairs[1::2], strict=False))
    delivery = Delivery(
        queue=_text(queue),
        body=fields[b"b"] if b"b" in fields else _strange(pairs),
        tag=(_text(stream), _text(entry), count),
        token=next(_tokens),
        id=_text(fields.get(b"i", b"")) or None,
        headers=_headers(fields.get(b"h", b"{}")),
        deliveries=int(deliveries),
        redelivered=bool(again),
        priority=_level(_text(stream)),
        lease=Lease(term),
    )
    return Claim(delivery, bool(late))


def priority_of(delivery: Delivery) -> int:
    """Return the priority. Each priority has its own stream."""
    return delivery.priority


def _level(stream: str) -> int:
    level = stream.rpartition(":")[2]
    return int(level) if level.isdecimal() else 0


def _strange(pairs: Sequence[bytes]) -> bytes:
    return ("not a message: " + json.dumps([_text(part) for part in pairs])).encode()


def _headers(text: bytes) -> Mapping[str, Any]:
    if text == b"{}":
        return {}
    try:
        found = strict_json.loads(text, limit=len(text))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")

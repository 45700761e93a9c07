"""What goes into ``lua/exchange.lua`` and what comes out of it. What others wrote into our streams may be anything."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paigeant.transport import Delivery, Outgoing
from paigeant.transports.routes import Letter
from paigeant.transports.settlement import Settlement


@dataclass(frozen=True, slots=True)
class Claim:
    """A message that was claimed; ``is_late``: it has expired."""

    delivery: Delivery
    is_late: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of an exchange.

    ``lost``: the holder is not known any more, all its leases are lost. ``due_in`` are the seconds until the next
    delayed message; ``expired`` is how many messages have expired that nobody holds; ``aside`` says what was set aside.
    """

    lost: bool
    accepted: Sequence[bool]
    claims: Sequence[Claim]
    due_in: float
    expired: int
    mark: bytes
    aside: Sequence[str]


def letters(settlement: Settlement) -> list[Letter]:
    """What a settlement publishes."""
    return [(one, settlement.expires) for one in settlement.outgoing]


def arguments(names: Sequence[str], settlements: Sequence[tuple[Settlement, Sequence[Letter]]]) -> list[Any]:
    """The script's arguments from the queues on."""
    found: list[Any] = [len(names), *names, len(settlements)]
    for settlement, published in settlements:
        found += _settlement(settlement, published)
    return found


def _settlement(settlement: Settlement, published: Sequence[Letter]) -> list[Any]:
    delivery, release = settlement.delivery, settlement.release_after
    stream, entry = delivery.tag if delivery is not None else ("", "")
    kind = "send" if delivery is None else "ack" if release is None else "release"
    parts: list[Any] = [
        kind,
        stream,
        entry,
        delivery.token if delivery is not None else 0,
        (delivery.id or "") if delivery is not None else "",
        int((release or 0.0) * 1000),
        int(settlement.tried),
        len(published),
    ]
    for one, expires in published:
        parts += _outgoing(one, expires)
    return parts


def _outgoing(one: Outgoing, expires: float | None) -> list[Any]:
    headers = json.dumps(dict(one.headers)) if one.headers else "{}"
    lasts = -1 if expires is None else int(expires * 1000)
    return [one.queue, one.id or "", one.body, headers, int(one.delay * 1000), one.priority, lasts]


def reply(found: Sequence[Any]) -> Reply:
    """The script's answer."""
    lost, accepted, claims, due, expired, mark, aside = found
    return Reply(
        lost=bool(lost),
        accepted=[bool(ok) for ok in accepted],
        claims=[claim(one) for one in claims],
        due_in=due / 1000 if due >= 0 else math.inf,
        expired=expired,
        mark=mark,
        aside=[_text(one) for one in aside],
    )


def claim(found: Sequence[Any]) -> Claim:
    """A claimed entry.

    One that is no message of ours is handed out with its fields as the body: its reader refuses it and sets it aside,
    with what it was.
    """
    queue, stream, entry, count, deliveries, again, late, *pairs = found
    fields = dict(zip(pairs[::2], pairs[1::2], strict=False))
    delivery = Delivery(
        queue=_text(queue),
        body=fields[b"b"] if b"b" in fields else _strange(pairs),
        tag=(_text(stream), _text(entry)),
        token=count,
        id=_text(fields.get(b"i", b"")) or None,
        headers=_headers(fields.get(b"h", b"{}")),
        deliveries=int(deliveries),
        redelivered=bool(again),
    )
    return Claim(delivery, bool(late))


def priority_of(delivery: Delivery) -> int:
    """Each priority has a stream of its own."""
    return int(delivery.tag[0].rpartition(":")[2])


def _strange(pairs: Sequence[bytes]) -> bytes:
    return ("not a message: " + json.dumps([_text(part) for part in pairs])).encode()


def _headers(text: bytes) -> Mapping[str, Any]:
    if text == b"{}":
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")

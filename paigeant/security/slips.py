"""Reads the bytes of a message for people: what it claims to carry, and whether that is believed."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from paigeant.errors import MalformedMessage, Untrusted
from paigeant.security.jws import BadSignature, unchecked
from paigeant.security.masking import MASK
from paigeant.security.notary import Notary
from paigeant.wire import codec, strict_json
from paigeant.wire.frame import START, cut, is_frame
from paigeant.wire.message import PaigeantMessage

_LARGEST = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Shown:
    """A message as it is shown: nothing of it is checked. ``plan`` is None if it is not signed."""

    message: PaigeantMessage
    plan: Mapping[str, Any] | None = None
    above: tuple[Mapping[str, Any], ...] = ()
    links: tuple[Mapping[str, Any], ...] = ()
    received: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types, without the token of the user."""
        shown = self.message.to_dict() | ({"obo_token": MASK} if self.message.obo_token is not None else {})
        about = {"signed": self.plan is not None, "plan": self.plan, "above": [*self.above], "links": [*self.links]}
        return about | {"received": [*self.received], "message": shown}


def body_of(data: bytes) -> bytes:
    """Return the bytes of a message: the data itself, or the body of a dead letter that was exported.

    Raises:
        MalformedMessage: there are several dead letters.
    """
    data = data.strip()
    if data.startswith(START) or not data.startswith(b"{"):
        return data
    first, _, rest = data.partition(b"\n")
    if rest and _letter(first) is not None:
        raise MalformedMessage("there are several dead letters in the file: export one")
    return _letter(data) or data


def _letter(data: bytes) -> bytes | None:
    """Return the body of an exported dead letter; None for other data."""
    try:
        found = strict_json.loads(data, limit=_LARGEST)
        is_letter = isinstance(found, dict) and isinstance(found.get("body"), str) and "spec_version" not in found
        return base64.b64decode(found["body"], validate=True) if is_letter else None
    except ValueError:
        return None


def shown(body: bytes, limit: int) -> Shown:
    """Return what the bytes of a message say, without checking a signature. ``limit`` is in bytes.

    Raises:
        MessageError: they are no message.
    """
    message = codec.decode(body, limit)
    if not is_frame(body):
        return Shown(message)
    frame = cut(body, limit)
    [plan] = _said([frame.plan])
    return Shown(
        message, plan, _said(frame.above), _said(frame.links), tuple(str(item["key"]) for item in frame.received)
    )


def _said(tokens: Iterable[str]) -> tuple[Mapping[str, Any], ...]:
    try:
        found = [unchecked(one) for one in tokens]
    except BadSignature as error:
        raise MalformedMessage(str(error)) from None
    return tuple({"kind": kind.value, "kid": kid} | claims for kind, kid, claims in found)


def judged(body: bytes, notary: Notary, now: float) -> tuple[PaigeantMessage, tuple[str, ...]]:
    """Return the message of these bytes, and its doubts, if a worker would believe it at this time (epoch seconds).

    Raises:
        MessageError: a worker would refuse it.
        KeysUnavailable: it is signed with a key that is not known here.
    """
    if not is_frame(body):
        raise Untrusted("unsigned", "the message is not signed")
    opened = notary.opened(body, now, lambda data: codec.decode(data, notary.limit))
    return opened.message, tuple(f"{one.key}: {one.reason} ({one.code})" for one in opened.doubts)

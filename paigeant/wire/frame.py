"""The frame of a signed message, wire format 2.0: the plan and the links, then the bytes that are signed.

    {"spec_version":"2.0","plan":"…","links":["…"],"size":812,"message":{…},"received":[…]}

Members come in this order, without spaces, and before the message there is nothing but base64url, dots and digits. So a
frame is cut without parsing JSON, and signatures are checked before anything of the message is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pydantic_core import from_json, to_json

from paigeant.errors import MalformedMessage, MessageTooLarge

FRAME_VERSION = "2.0"
"""The wire format of signed messages."""

START = b'{"spec_version":"2.0",'
"""The bytes with which every frame begins."""

LARGEST_HEAD = 262_144
"""Maximum bytes before the message."""

MOST_LINKS = 1_000
"""Maximum links of a message."""

_TOKEN = rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"
_HEAD = re.compile(
    rb'\{"spec_version":"2\.0",(?:"above":\[((?:"' + _TOKEN + rb'",?)+)\],)?"plan":"(' + _TOKEN + rb')",'
    rb'"links":\[((?:"' + _TOKEN + rb'",?)*)\],"size":([1-9][0-9]{0,9}),"message":'
)
_RECEIVED = b',"received":['


@dataclass(frozen=True, slots=True)
class Frame:
    """A signed message: its plan, its links, its bytes, and what was received for it since.

    ``above`` are the plans of its ancestors, the root first, if another workflow began this one. ``received`` are
    objects with the key, the entry and its proof; the signature over ``message`` does not cover them.
    """

    plan: str
    links: tuple[str, ...]
    message: bytes
    above: tuple[str, ...] = ()
    received: tuple[dict[str, Any], ...] = ()

    def to_bytes(self) -> bytes:
        """Return the frame as it travels."""
        above = f'"above":{_listed(self.above)},' if self.above else ""
        signed = f'{above}"plan":"{self.plan}","links":{_listed(self.links)}'
        head = f'{START.decode()}{signed},"size":{len(self.message)},"message":'
        received = _RECEIVED + to_json(self.received)[1:] if self.received else b""
        return b"".join((head.encode(), self.message, received, b"}"))

    def receiving(self, key: str, entry: dict[str, Any], proof: Any = None) -> Frame:
        """Return the frame with what its step waited for, and the proof of it. The signed bytes stay as they are."""
        item = {"key": key, "entry": entry} | ({} if proof is None else {"proof": proof})
        return replace(self, received=(*self.received, item))


def is_frame(body: bytes) -> bool:
    """Whether the bytes begin like a signed message."""
    return body.startswith(START)


def parts_of(body: bytes) -> tuple[str | None, bytes]:
    """Return the plan and the bytes of the message itself. An unsigned message has no plan."""
    if not is_frame(body):
        return None, body
    frame = cut(body, len(body))
    return frame.plan, frame.message


def link_in(body: bytes) -> str | None:
    """Return the latest link of a signed message; None for an unsigned one, and for the first of a workflow."""
    links = cut(body, len(body)).links if is_frame(body) else ()
    return links[-1] if links else None


def message_of(body: bytes) -> bytes:
    """Return the bytes of the message itself, of a signed and of an unsigned one."""
    return parts_of(body)[1]


def cut(body: bytes, limit: int) -> Frame:
    """Cut the bytes of a signed message into its parts, without parsing the message.

    ``limit`` is the maximum size of the message, in bytes.

    Raises:
        MessageTooLarge: the message, or what stands before it, is too large.
        MalformedMessage: the bytes are no frame.
    """
    head = _HEAD.match(body, 0, LARGEST_HEAD)
    if head is None:
        if len(body) > LARGEST_HEAD and body.find(b'"message":', 0, LARGEST_HEAD) < 0:
            raise MessageTooLarge(f"the signatures of a message take more than {LARGEST_HEAD:,} bytes")
        raise MalformedMessage("not a signed message: its frame is not plan, links, size and message")
    above, plan, links, size = head.groups()
    end = head.end() + int(size)
    if int(size) > limit:
        raise MessageTooLarge(f"the message is {int(size):,} bytes, the limit {limit:,}")
    return Frame(
        plan=plan.decode(),
        links=_tokens(links),
        message=body[head.end() : end],
        above=_tokens(above or b""),
        received=_received(body[end:], limit),
    )


def _listed(tokens: Iterable[str]) -> str:
    return "[" + ",".join(f'"{one}"' for one in tokens) + "]"


def _tokens(listed: bytes) -> tuple[str, ...]:
    if not listed:
        return ()
    tokens = listed.decode().split(",")
    if len(tokens) > MOST_LINKS:
        raise MalformedMessage(f"a signed message has {len(tokens):,} signatures, and {MOST_LINKS:,} is the limit")
    if not all(len(one) > 1 and one[0] == one[-1] == '"' for one in tokens):
        raise MalformedMessage("not a signed message: its signatures are not a list of texts")
    return tuple(one[1:-1] for one in tokens)


def _received(rest: bytes, limit: int) -> tuple[dict[str, Any], ...]:
    if rest == b"}":
        return ()
    if not rest.startswith(_RECEIVED) or len(rest) > limit:
        raise MalformedMessage("not a signed message: what stands behind the message is not what it received")
    try:
        items = from_json(rest[len(_RECEIVED) - 1 : -1], allow_inf_nan=False)
    except ValueError as error:
        raise MalformedMessage(f"not a signed message: what it received is no JSON: {error}") from error
    if rest[-1:] != b"}" or not isinstance(items, list) or not all(map(_is_received, items)):
        raise MalformedMessage("not a signed message: what it received has another shape")
    return tuple(items)


def _is_received(item: Any) -> bool:
    if not isinstance(item, dict) or not {"key", "entry"} <= item.keys() <= {"key", "entry", "proof"}:
        return False
    return isinstance(item["key"], str) and isinstance(item["entry"], dict)

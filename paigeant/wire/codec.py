"""Between messages and bytes: bounded, and polite about what it does not know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from paigeant.errors import MalformedMessage, MessageTooLarge, NotSerializable, UnsupportedVersion
from paigeant.wire.arrivals import checked
from paigeant.wire.aside import named
from paigeant.wire.claim_check import as_json
from paigeant.wire.frame import Frame, cut, is_frame
from paigeant.wire.limits import STEPS, refuse_too_many_in
from paigeant.wire.message import REQUIRED, SPEC_VERSION, PaigeantMessage
from paigeant.wire.reading import read
from paigeant.wire.values import on_one_line, printable

_MAJOR = SPEC_VERSION.partition(".")[0]


def encode(message: PaigeantMessage, limit: int) -> bytes:
    """The message as bytes.

    Raises:
        MessageTooLarge: naming the part of the message that takes the most room.
        NotSerializable: a text of the message, a prompt for example, holds a lone surrogate.
    """
    try:
        body = message.to_json()
    except PydanticSerializationError as error:
        raise NotSerializable(f"the message cannot be written as JSON: {printable(str(error))}") from error
    if len(body) <= limit:
        return body
    part, size = _largest_part(message)
    raise MessageTooLarge(
        f"the message is {len(body):,} bytes, the limit {limit:,}; {part} alone takes {size:,}",
        hint="pass a reference (a key, a URL) instead of the data, or raise PAIGEANT_MESSAGE_LIMIT",
    )


def decode(body: bytes, limit: int, steps: int = STEPS) -> PaigeantMessage:
    """The bytes as a message. Signatures around it are not checked here.

    ``limit`` is in bytes; ``steps`` is the setting ``step_limit``.

    Raises:
        MessageTooLarge, UnsupportedVersion, MalformedMessage: none of them can be cured by trying again.
    """
    if is_frame(body):
        return _framed(cut(body, limit), limit, steps)
    if len(body) > limit:
        raise MessageTooLarge(f"the message is {len(body):,} bytes, the limit {limit:,}")
    parsed = _parsed(body)
    _refuse_unknown_version(parsed)
    refuse_too_many_in(body, parsed, steps)
    try:
        message = PaigeantMessage.from_dict(parsed)
    except ValidationError as error:
        raise MalformedMessage(f"not a paigeant message: {_first_problem(error)}") from error
    if missing := REQUIRED - message.model_fields_set:
        raise MalformedMessage(f"not a paigeant message: {min(missing)}: Field required")
    return message


def _framed(frame: Frame, limit: int, steps: int) -> PaigeantMessage:
    """The message of a frame, whose signatures nobody has looked at here, with what it has received since."""
    if is_frame(frame.message):
        raise MalformedMessage("not a paigeant message: a signed message is inside another one")
    return receiving(decode(frame.message, limit, steps), frame.received)


def receiving(message: PaigeantMessage, received: Iterable[Mapping[str, Any]]) -> PaigeantMessage:
    """The message with these items of its frame: what came since it was signed.

    Raises:
        MalformedMessage: an item is not what the engine reads of such a key.
    """
    for item in received:
        try:
            message = message.receiving(item["key"], checked(item["key"], item["entry"]))
        except ValueError as error:
            raise MalformedMessage(f"not a paigeant message: received: {error}") from error
    return message


def _parsed(body: bytes) -> Any:
    """The JSON of a message, if every reader sees the same in it.

    Raises:
        MalformedMessage: it is no JSON, has a member twice, or has a number that JSON does not have.
    """
    try:
        return read(body)
    except ValueError as error:
        raise MalformedMessage(f"not a paigeant message: {on_one_line(str(error)[:1000])}") from None


def _refuse_unknown_version(parsed: Any) -> None:
    """A newer major version may look like anything: say so instead of listing what is 'wrong' with it."""
    version = parsed.get("spec_version") if isinstance(parsed, dict) else None
    if isinstance(version, str) and version[:1].isdigit() and version.partition(".")[0] != _MAJOR:
        raise UnsupportedVersion(f"spec_version {version!r} is not known here (this release reads {_MAJOR}.x)")


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, problem["loc"])) or "the message"
    return on_one_line(f"{where}: {problem['msg']}"[:1000])


def _largest_part(message: PaigeantMessage) -> tuple[str, int]:
    sizes = {what: len(as_json(value)) for what, value in named(message).items()}
    empty = ("the itinerary", len(message.to_json()))
    return max(sizes.items(), key=lambda item: item[1], default=empty)

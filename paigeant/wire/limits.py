"""Limits of what a message and a value may contain. Pure; the settings have the same names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from paigeant.errors import MessageTooLarge

if TYPE_CHECKING:  # the settings, which every command reads, have these defaults
    from paigeant.wire.message import PaigeantMessage
    from paigeant.wire.slip import ActivitySpec, RoutingSlip

STEPS = 10_000
"""The default of the setting ``step_limit``."""

VALUE = 67_108_864
"""The default of the setting ``value_limit``, in bytes."""

_WHAT = {
    **dict.fromkeys(("itinerary", "otherwise", "registered"), "steps"),
    "log": "log entries",
    "received": "received values",
}
"""What the elements of a message's lists are, for people."""

_VALUES = frozenset({"arguments", "variables", "deps", "output", "progress", "prompt", "value", "principal", "among"})
"""Members whose contents belong to users. Only the size of the message limits them."""


# --- steps -----------------------------------------------------------------------------------------------------------


def refuse_too_many(message: PaigeantMessage, most: int) -> None:
    """Refuse a message with more steps, log entries or received values than that, before it is encoded.

    Raises:
        MessageTooLarge: it names what there is too much of.
    """
    slip = message.routing_slip
    counts = {
        "steps": sum(map(_steps_in, (*slip.itinerary, *slip.registered))),
        "log entries": len(slip.log),
        "received values": sum(map(len, message.received.values())) if message.received else 0,
    }
    for what, number in counts.items():
        _refuse(what, number, most)


def refuse_too_many_begun(number: int, most: int) -> None:
    """Refuse a step that begins more workflows at once than that.

    Raises:
        MessageTooLarge: it says how many.
    """
    if number > most:
        raise MessageTooLarge(
            f"the step begins {number:,} workflows at once, the limit is {most:,}",
            hint="begin them in several steps, or raise PAIGEANT_STEP_LIMIT for the workers",
        )


def _steps_in(step: ActivitySpec) -> int:
    if not (step.branches or step.otherwise):
        return 1
    return 1 + sum(map(_steps_of, step.branches)) + sum(map(_steps_in, step.otherwise))


def _steps_of(slip: RoutingSlip) -> int:
    return sum(map(_steps_in, slip.itinerary))


def refuse_too_many_in(body: bytes, parsed: Any, most: int) -> None:
    """The same for a message as it came, whose JSON was parsed but not validated yet; and for all its other lists.

    Raises:
        MessageTooLarge: it names what there is too much of.
    """
    # An element takes more than one byte; it is the first one of its list or object, or has a comma before it.
    if len(body) <= most or body.count(b",") + body.count(b"[") + body.count(b"{") <= most:
        return
    counts = dict.fromkeys(_WHAT.values(), 0)
    for name, part in _lists_and_tables(parsed):
        what = _WHAT.get(name, f"entries of {name!r}")
        number = len(part) if isinstance(part, dict) else counts.get(what, 0) + len(part)
        _refuse(what, number, most)
        if isinstance(part, list):
            counts[what] = number


def _lists_and_tables(parsed: Any) -> Iterator[tuple[str, Any]]:
    """Each list and each object that is a member, with the member's name; without the values of users."""
    level = [("", parsed)]
    while level:
        found = [(name, part) for name, part in level if isinstance(part, list | dict)]
        yield from ((name, part) for name, part in found if name)
        level = [inner for name, part in found for inner in _inside(name, part)]


def _inside(name: str, part: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(part, list):  # its objects are steps, slips or entries: they have no more members than their class
        return ((name if isinstance(one, list) else "", one) for one in part)
    if name == "received":  # lists by key
        return ((name, one) for one in part.values())
    return ((inner, one) for inner, one in part.items() if inner not in _VALUES)


def _refuse(what: str, number: int, most: int) -> None:
    if number > most:
        raise MessageTooLarge(
            f"the message has {number:,} {what}, the limit is {most:,}",
            hint="dispatch several workflows instead of one, or raise PAIGEANT_STEP_LIMIT for the App and its workers",
        )


# --- values ----------------------------------------------------------------------------------------------------------


def refuse_too_large(value: Any, what: str, most: int) -> None:
    """Refuse a value of JSON types whose JSON has more bytes than that. ``what`` it is, for people.

    Raises:
        MessageTooLarge: it names the value and its size.
    """
    if not _is_surely_small(value, most) and (size := len(to_json(value, inf_nan_mode="strings"))) > most:
        refuse_size(size, what, most)


def refuse_size(size: int, what: str, most: int) -> None:
    """Refuse a value of so many bytes of JSON.

    Raises:
        MessageTooLarge: it names the value and its size.
    """
    if size > most:
        raise MessageTooLarge(
            f"{what} is {size:,} bytes, the limit for a value {most:,}",
            hint="pass a reference (a key, a URL) instead of the data, or raise PAIGEANT_VALUE_LIMIT",
        )


def _is_surely_small(value: Any, most: int) -> bool:
    """Whether the value is small without a look at all of it: a character takes at most six bytes."""
    match value:
        case None | bool() | float():
            return True
        case str():
            return len(value) * 6 + 2 <= most
        case _:
            return False


def refuse_changed_ones(values: Mapping[str, Any], before: Mapping[str, Any], most: int) -> None:
    """:func:`refuse_too_large` for the variables of a workflow that are another object than before.

    Raises:
        MessageTooLarge: it names the variable and its size.
    """
    for name, value in values.items():
        if name not in before or before[name] is not value:
            refuse_too_large(value, f"variables[{name!r}]", most)

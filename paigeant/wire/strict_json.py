"""Reads JSON in which two readers cannot see different values.

Python's own parser accepts duplicate members, ``NaN``, numbers that become infinite, and lone surrogates. A program
that reads the same bytes may then see something else, or refuse them.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NoReturn

from paigeant.wire.values import printable

DEEPEST = 200
"""How many arrays and objects may be inside each other; pydantic's parser has the same limit."""

_LONGEST_NAME = 60
"""Characters of a duplicate member that an error shows."""

_MOST_DIGITS = 4000
"""Python reads 4300 digits unless it is set otherwise; the time grows with their square."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def loads(data: bytes | str, *, limit: int, deepest: int = DEEPEST) -> Any:
    """Parse JSON of at most ``limit`` bytes in UTF-8.

    Raises:
        ValueError: the data is too long, no JSON, nested too deeply, has a member twice, or has a number or a text that
            not every reader can represent. The text of the error contains at most a name of the data.
    """
    text = _text(data, limit)
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_number, parse_int=_integer
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError(_too_deep(deepest)) from None
    if text.count("[") + text.count("{") > deepest and _is_deeper(value, deepest):
        raise ValueError(_too_deep(deepest))
    if _SURROGATE.search(text):
        _refuse_lone_surrogates(value)
    return value


def _text(data: bytes | str, limit: int) -> str:
    try:
        if len(data) > limit or (isinstance(data, str) and len(data.encode()) > limit):
            raise ValueError(f"longer than {limit:,} bytes")
        return data if isinstance(data, str) else data.decode()
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise ValueError(f"no UTF-8: {error.reason} at position {error.start}") from None


def _object(members: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        name = Counter(name for name, _ in members).most_common(1)[0][0]
        raise ValueError(f"the member {printable(name[:_LONGEST_NAME])!r} is there twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError("a number has too many digits")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _is_deeper(value: Any, deepest: int) -> bool:
    level = [value]
    for _ in range(deepest + 1):
        inside = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        if not inside:
            return False
        level = [part for parts in inside for part in parts]
    return True


def _too_deep(deepest: int) -> str:
    return f"nested more than {deepest} deep"


def _refuse_lone_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text contains half of a character (a lone surrogate)") from None

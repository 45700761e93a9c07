"""The names of the locks, places and starts that a step acquires: one name, or one for each value of its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from string import Formatter
from typing import Any

from paigeant.decisions.limit import MOST_PLACES, Limit
from paigeant.errors import ConfigurationError, InvalidInput

KEYS = ("lock:", "concurrency:", "rate:")
"""How the key begins of what a step waits for that waits for a lock, a place or a turn."""

_LONGEST = 200
"""Characters of a key; of a longer one the end is a digest."""


@dataclass(frozen=True, slots=True)
class LockName:
    """The name of a lock, in which ``{name}`` is replaced by the value of an argument or variable."""

    parts: tuple[tuple[str, str | None], ...]

    @classmethod
    def parsed(cls, name: str) -> LockName:
        """Parse a name. The text between braces is the name of an argument or variable.

        Raises:
            ValueError: the text cannot be a lock's name.
        """
        parts = list(Formatter().parse(name))
        for _, field, form, conversion in parts:
            if field is not None and (not field.isidentifier() or form or conversion):
                raise ValueError(f"{{{field}}} is no name of an argument or variable alone")
        if not name:
            raise ValueError("the name is empty")
        return cls(tuple((text, field) for text, field, _, _ in parts))

    def key(self, values: Mapping[str, Any]) -> str:
        """The name, with these values (JSON types) in it.

        Raises:
            InvalidInput: a value is missing, or is neither text nor number nor boolean.
        """
        name = "".join(text + (_formatted(field, values) if field else "") for text, field in self.parts)
        if len(name) <= _LONGEST and name.isprintable():
            return name
        digest = blake2b(name.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        return "".join(one for one in name[: _LONGEST // 2] if one.isprintable()) + "#" + digest


def _formatted(field: str, values: Mapping[str, Any]) -> str:
    value = values.get(field)
    if not isinstance(value, str | int | float):
        what = "has no value" if value is None else f"is {type(value).__name__}, neither text nor number"
        raise InvalidInput(f"the lock's name has {{{field}}} in it, and {field!r} {what}")
    return str(value)


@dataclass(frozen=True, slots=True)
class NamedLimit:
    """A limit of an activity, and of others that give theirs the same name. ``kind`` is how its key begins."""

    kind: str
    name: LockName
    limit: Limit

    @property
    def what(self) -> str:
        """Describe the limit for people."""
        return "lock" if self.kind == "lock:" else f"{self.kind[:-1]} limit"

    def key(self, prefix: str, values: Mapping[str, Any]) -> str:
        """Return the key of this limit for a step with these values, in the App with this queue prefix."""
        return f"{self.kind}{prefix}:{self.name.key(values)}"


def limits_of(
    activity: str,
    lock: bool | str = False,
    concurrency: int | Mapping[str, int] | None = None,
    rate: str | Mapping[str, str] | None = None,
) -> tuple[NamedLimit, ...]:
    """Read ``@app.activity(lock=..., concurrency=..., rate=...)``; an unnamed one has the activity's name.

    Raises:
        ConfigurationError: naming the option that makes no sense.
    """
    said: dict[str, Any] = {"lock": lock, "concurrency": concurrency, "rate": rate}
    return tuple(
        _limit(activity, option, value, name, number)
        for option, value in said.items()
        for name, number in _by_name(option, value).items()
    )


def _by_name(option: str, said: Any) -> Mapping[str | None, Any]:
    match said:
        case None | False:
            return {}
        case True:
            return {None: said}
        case Mapping():
            return said
        case str() if option == "lock":
            return {said: True}
        case _:
            return {None: said}


def _limit(activity: str, option: str, said: Any, name: str | None, number: Any) -> NamedLimit:
    try:
        parsed = LockName(((activity, None),)) if name is None else LockName.parsed(name)
        return NamedLimit(f"{option}:", parsed, _read(option, number))
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"activity {activity!r}: {option}={said!r}: {error}", hint=_HINTS[option]) from error


def _read(option: str, number: Any) -> Limit:
    match option, number:
        case "lock", True:
            return Limit()
        case "concurrency", int() if number is not True and 0 < number <= MOST_PLACES:
            return Limit(number)
        case "rate", str():
            return Limit.of_rate(number)
        case _:
            raise ValueError(f"{number!r} makes no sense here")


_HINTS = {
    "lock": 'for example lock="customer:{id}"',
    "concurrency": 'for example concurrency=5, or concurrency={"customer:{id}": 2}',
    "rate": 'for example rate="100/m", or rate={"customer:{id}": "5/s"}',
}

"""Which lock a step takes: a name, or one for each value of some of its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from string import Formatter
from typing import Any

from paigeant.errors import ConfigurationError, InvalidInput

KEY = "lock:"
"""How the key begins of what a step waits for that waits for a lock."""

_LONGEST = 200
"""Characters of a key; of a longer one the end is a digest."""


@dataclass(frozen=True, slots=True)
class LockName:
    """The name of a lock, in which ``{name}`` stands for the value of an argument or variable."""

    parts: tuple[tuple[str, str | None], ...]

    @classmethod
    def of(cls, lock: bool | str, activity: str) -> LockName | None:
        """What ``@app.activity(lock=...)`` says: True is one lock for the activity, of its name.

        Raises:
            ConfigurationError: the text cannot be a lock's name.
        """
        if isinstance(lock, bool):
            return cls(((activity, None),)) if lock else None
        try:
            parsed = list(Formatter().parse(lock))
        except ValueError as error:
            raise _wrong(activity, lock, str(error)) from error
        for _, name, form, conversion in parsed:
            if name is not None and (not name.isidentifier() or form or conversion):
                raise _wrong(activity, lock, f"{{{name}}} is no name of an argument or variable alone")
        if not lock:
            raise _wrong(activity, lock, "it is empty")
        return cls(tuple((text, name) for text, name, _, _ in parsed))

    def key(self, values: Mapping[str, Any]) -> str:
        """The name, with these values (JSON types) in it.

        Raises:
            InvalidInput: a value is missing, or is neither text nor number nor boolean.
        """
        name = "".join(text + (_written(field, values) if field else "") for text, field in self.parts)
        if len(name) <= _LONGEST and name.isprintable():
            return name
        digest = blake2b(name.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        return "".join(one for one in name[: _LONGEST // 2] if one.isprintable()) + "#" + digest


def _written(field: str, values: Mapping[str, Any]) -> str:
    value = values.get(field)
    if not isinstance(value, str | int | float):
        what = "has no value" if value is None else f"is {type(value).__name__}, neither text nor number"
        raise InvalidInput(f"the lock's name has {{{field}}} in it, and {field!r} {what}")
    return str(value)


def _wrong(activity: str, lock: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"activity {activity!r}: lock={lock!r}: {why}", hint='for example lock="customer:{id}"')

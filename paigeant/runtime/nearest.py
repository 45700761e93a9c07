"""Misspelt names: which of the known names was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

PROBABLY = 0.8
"""How alike two names are, of at most 1, where an unknown name may also be right: only then is one pointed out."""


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The known name that is most like this one, or None. Upper case, and - in the place of _, do not count."""
    by_form = {_form(one): one for one in known}
    found = get_close_matches(_form(name), by_form, 1, likeness)
    return by_form[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str], otherwise: str | None = None) -> str | None:
    """The hint for a name that is not known: the nearest one, or else this text."""
    return suggestion(name, known, "did you mean") or otherwise


def suggestion(name: str, known: Iterable[str], lead: str = "; did you mean") -> str:
    """What to append to a text about a name that is not known: the nearest one, or nothing."""
    near = nearest(name, known)
    return "" if near is None else f"{lead} {near!r}?"


def _form(name: str) -> str:
    return name.casefold().replace("-", "_")

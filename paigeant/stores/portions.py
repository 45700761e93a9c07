"""Ids that stand in one statement, so many at a time: SQLite takes 32,766 values in one, PostgreSQL 65,535."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

_AT_ONCE = 500


def portions(ids: Iterable[str]) -> Iterator[Sequence[str]]:
    """The ids in order, so that whoever locks them all locks them as everybody else does."""
    every = sorted(ids)
    return (every[start : start + _AT_ONCE] for start in range(0, len(every), _AT_ONCE))

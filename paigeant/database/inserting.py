"""Inserts that know what to do with a row that is there already: each database has its own, and imports no other's."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import Table


def insert_into(dialect: str, table: Table) -> Any:
    """An insert that takes ``on_conflict_do_update``."""
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert

        return insert(table)
    from sqlalchemy.dialects import postgresql  # with its five drivers: a twentieth of what a worker imports

    return postgresql.insert(table)


@lru_cache
def insert_new(dialect: str, table: Table) -> Any:
    """An insert that leaves alone what is there already: recording a fact twice changes nothing."""
    return insert_into(dialect, table).on_conflict_do_nothing()

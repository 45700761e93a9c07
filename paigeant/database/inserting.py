"""Inserts that handle existing rows. Each database has its own construct and imports no other."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import Table


def insert_into(dialect: str, table: Table) -> Any:
    """Return an insert that supports ``on_conflict_do_update``."""
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert

        return insert(table)
    from sqlalchemy.dialects import postgresql  # with its five drivers: a twentieth of what a worker imports

    return postgresql.insert(table)


@lru_cache
def insert_new(dialect: str, table: Table) -> Any:
    """Return an insert that skips existing rows, so that recording a fact twice changes nothing."""
    return insert_into(dialect, table).on_conflict_do_nothing()

"""One SQL database, SQLite or PostgreSQL, as transport and store both use it."""

from __future__ import annotations

from paigeant.database.database import DATABASES, MOMENT, Database, is_transient, retrying, unreachable_as

__all__ = ["DATABASES", "MOMENT", "Database", "is_transient", "retrying", "unreachable_as"]

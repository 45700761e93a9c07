"""Migrations: numbered SQL files beside the component whose tables they make, applied once each."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

from sqlalchemy import Connection, text

from paigeant.errors import SchemaTooNew

_TYPES = {
    "sqlite": {"serial": "INTEGER PRIMARY KEY AUTOINCREMENT", "bytes": "BLOB", "double": "REAL"},
    "postgresql": {
        "serial": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "bytes": "BYTEA",
        "double": "DOUBLE PRECISION",
    },
}


def migrations_of(component: str) -> list[tuple[int, str]]:
    """The numbered migrations of a component: (number, SQL)."""
    folder = files("paigeant").joinpath(component, "migrations")
    scripts = sorted((item.name, item.read_text()) for item in folder.iterdir() if item.name.endswith(".sql"))
    return [(int(name.split("_")[0]), script) for name, script in scripts]


def migrate(connection: Connection, component: str) -> None:
    """Apply what is missing, in one transaction that keeps others who do the same waiting.

    Raises:
        SchemaTooNew: a newer release was here before.
    """
    with connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(7302914430)"))
        connection.execute(
            text("CREATE TABLE IF NOT EXISTS paigeant_schema (component TEXT PRIMARY KEY, version INTEGER NOT NULL)")
        )
        found: Any = connection.execute(
            text("SELECT version FROM paigeant_schema WHERE component = :component"), {"component": component}
        ).scalar()
        migrations = migrations_of(component)
        newest = migrations[-1][0]
        if found is not None and found > newest:
            raise SchemaTooNew(
                f"the {component} tables have version {found}, this release knows {newest}",
                hint="upgrade paigeant here as well",
            )
        for number, script in migrations:
            if number > (found or 0):
                _run(connection, script)
        if found != newest:
            connection.execute(
                text(
                    "INSERT INTO paigeant_schema (component, version) VALUES (:component, :version)"
                    " ON CONFLICT (component) DO UPDATE SET version = excluded.version"
                ),
                {"component": component, "version": newest},
            )


def _run(connection: Connection, script: str) -> None:
    types = _TYPES[connection.dialect.name]
    for statement in script.split(";"):
        if statement.strip():
            connection.exec_driver_sql(re.sub(r"\{(\w+)\}", lambda found: types[found[1]], statement))

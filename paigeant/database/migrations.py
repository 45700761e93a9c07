"""Migrations: numbered SQL files beside the component whose tables they make, applied once each.

A file that begins with ``-- readable by: N`` leaves a schema with which the release still works whose newest migration
was N: it only adds. Releases compare this number, so that an older one keeps running while a newer one is rolled out.

``paigeant_schema`` has a row for each component. ``applied`` is its newest migration, ``version`` the oldest release
that can work with it: releases without ``applied`` know only ``version``, and refuse one that is above theirs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from sqlalchemy import Connection, inspect, text

from paigeant.database import clock
from paigeant.errors import SchemaTooNew

_TYPES = {
    "sqlite": {"serial": "INTEGER PRIMARY KEY AUTOINCREMENT", "bytes": "BLOB", "double": "REAL"},
    "postgresql": {
        "serial": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "bytes": "BYTEA",
        "double": "DOUBLE PRECISION",
        "bytewise": 'COLLATE "C"',
        "postgresql": "",
    },
}
"""What stands in braces. A statement for which a database has no word is left out there: it needs no such thing."""

_MUTEX = text("SELECT pg_advisory_xact_lock(7302914430)")
_TABLE = "CREATE TABLE IF NOT EXISTS paigeant_schema (component TEXT PRIMARY KEY, version INTEGER NOT NULL)"
_FIND = text("SELECT * FROM paigeant_schema WHERE component = :component")
_NOTE = text(
    "INSERT INTO paigeant_schema (component, version, applied) VALUES (:component, :readable_by, :applied)"
    " ON CONFLICT (component) DO UPDATE SET version = excluded.version, applied = excluded.applied"
)
_WORD = re.compile(r"\{(\w+)\}")
_READABLE_BY = re.compile(r"-- readable by: (\d+)")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. ``readable_by`` is the newest migration of the oldest release that can use the result."""

    number: int
    script: str
    readable_by: int


@dataclass(frozen=True, slots=True)
class Schema:
    """The state of the tables of a component: their newest migration, and the oldest release that can use them."""

    applied: int = 0
    readable_by: int = 0
    is_noted: bool = False
    """Whether a release wrote it down that tells the two numbers apart."""


@cache
def migrations_of(component: str) -> Sequence[Migration]:
    """Return the migrations of a component in their order."""
    folder = files("paigeant").joinpath(component, "migrations")
    scripts = sorted((item.name, item.read_text()) for item in folder.iterdir() if item.name.endswith(".sql"))
    return [_migration(int(name.split("_")[0]), script) for name, script in scripts]


def _migration(number: int, script: str) -> Migration:
    found = _READABLE_BY.match(script)
    return Migration(number, script, int(found[1]) if found else number)


def schema_of(connection: Connection, component: str) -> Schema:
    """Return the current state of the tables."""
    if not inspect(connection).has_table("paigeant_schema"):
        return Schema()
    row = connection.execute(_FIND, {"component": component}).mappings().first()
    return Schema() if row is None else _schema(row)


def _schema(row: Mapping[Any, Any]) -> Schema:
    applied = row.get("applied")
    if applied is None:
        return Schema(row["version"], row["version"])
    return Schema(applied, row["version"], is_noted=True)


def missing(component: str, schema: Schema) -> Sequence[Migration]:
    """Return the known migrations that are not applied yet.

    Raises:
        SchemaTooNew: a newer release was here, and changed what this one relies on.
    """
    known = migrations_of(component)
    newest = known[-1].number
    if schema.readable_by > newest:
        raise SchemaTooNew(
            f"the {component} tables have version {schema.readable_by}, this release knows {newest}",
            hint="upgrade paigeant here as well",
        )
    return [one for one in known if one.number > schema.applied]


def is_current(component: str, schema: Schema) -> bool:
    """Return whether every migration is applied.

    Raises:
        SchemaTooNew: as :func:`missing`.
    """
    return not missing(component, schema) and schema.is_noted


def migrate(connection: Connection, component: str) -> None:
    """Apply the missing migrations, in one transaction that makes other migrating processes wait.

    Raises:
        SchemaTooNew: as :func:`missing`.
    """
    with connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(_MUTEX)
        connection.exec_driver_sql(_TABLE)
        schema = schema_of(connection, component)
        if is_current(component, schema):
            return
        for one in missing(component, schema):
            _run(connection, one.script)
        _prepare_notes(connection)
        newest = max(schema.applied, migrations_of(component)[-1].number)
        readable_by = max(schema.readable_by, *(one.readable_by for one in migrations_of(component)))
        connection.execute(_NOTE, {"component": component, "applied": newest, "readable_by": readable_by})


def _prepare_notes(connection: Connection) -> None:
    """Add columns that older releases did not have to the tables that belong to no component."""
    if "applied" not in {column["name"] for column in inspect(connection).get_columns("paigeant_schema")}:
        connection.exec_driver_sql("ALTER TABLE paigeant_schema ADD COLUMN applied INTEGER")
    if connection.dialect.name == "sqlite":
        clock.make_table(connection)


def _run(connection: Connection, script: str) -> None:
    types = _TYPES[connection.dialect.name]
    for statement in script.split(";"):
        if statement.strip() and types.keys() >= set(_WORD.findall(statement)):
            connection.exec_driver_sql(_WORD.sub(lambda found: types[found[1]], statement))

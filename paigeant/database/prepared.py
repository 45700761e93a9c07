"""Statements that every step executes: SQLAlchemy compiles their text once and then only passes it to the driver.

It would look up what it has compiled, and lay out the parameters, anew at each execution, which takes a multiple of the
time that SQLite takes for the statement itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, CursorResult, Dialect

Row = Mapping[str, Any]


def execute(connection: Connection, statement: Any, rows: Row | Sequence[Row]) -> CursorResult[*tuple[Any, ...]]:
    """Execute a statement, of which the process has one object only, with one row or with several.

    All rows have the names of the first. What is selected comes as the driver has it: JSON is a text.
    """
    first = rows if isinstance(rows, Mapping) else rows[0]
    prepared = _prepared(statement, connection.dialect, tuple(first))
    if isinstance(rows, Mapping):
        return connection.exec_driver_sql(prepared.text, prepared.parameters(rows))
    return connection.exec_driver_sql(prepared.text, [prepared.parameters(row) for row in rows])


@dataclass(frozen=True, slots=True)
class _Prepared:
    """The text, and of each parameter its name, what it is when no row says so, and how the driver gets it."""

    text: str
    binds: Sequence[tuple[str, Any, Callable[[Any], Any] | None]]
    is_positional: bool

    def parameters(self, row: Row) -> Any:
        values = (
            (name, row.get(name, constant) if process is None else process(row.get(name, constant)))
            for name, constant, process in self.binds
        )
        return tuple(value for _, value in values) if self.is_positional else dict(values)


@lru_cache(maxsize=256)
def _prepared(statement: Any, dialect: Dialect, names: tuple[str, ...]) -> _Prepared:
    compiled = statement.compile(dialect=dialect, column_keys=names)
    constants, positions = compiled.params, compiled.positiontup
    binds = [
        (name, constants.get(name), compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
        for name in (constants if positions is None else positions)
    ]
    return _Prepared(str(compiled), binds, positions is not None)

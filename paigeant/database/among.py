"""Conditions that a column has one of many values, given as one parameter of a statement.

Databases accept only some ten thousand single parameters, and SQLAlchemy would compile a statement for each number.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from pydantic_core import to_json
from sqlalchemy import ARRAY, BindParameter, Boolean, Column, Dialect, Text, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine


def among(column: Column[Any], name: str) -> _Among:
    """The condition that the column has one of the values in the parameter of this name."""
    return _Among(column, many(name, column.type))


def many(name: str, type_: TypeEngine[Any]) -> BindParameter[Any]:
    """A list in the parameter of this name: an array on PostgreSQL, JSON on SQLite."""
    return bindparam(name, type_=_Many(type_))


def one_of(column: Column[Any], values: Collection[Any]) -> _Among:
    """The condition that the column has one of these values."""
    return _Among(column, bindparam(None, list(values), type_=_Many(column.type), unique=True))


class _Many(TypeDecorator[Sequence[Any]]):
    """A list as one parameter. Values with a NUL are left out, because SQLite's JSON ends a text at a NUL."""

    impl = Text
    cache_ok = True

    def __init__(self, one: TypeEngine[Any]) -> None:
        super().__init__()
        self.one = one

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return ARRAY(self.one) if dialect.name == "postgresql" else Text()

    def process_bind_param(self, value: Sequence[Any] | None, dialect: Dialect) -> Any:
        values = list(value or ())
        if dialect.name == "postgresql":
            return values
        return to_json([one for one in values if not (isinstance(one, str) and "\0" in one)]).decode()


class _Among(FunctionElement[bool]):
    name = "among"
    type = Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> Any:
        return self  # or SQLAlchemy compares it with 1, for databases without truth values


@compiles(_Among)
def _in_json(element: _Among, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(one, **options) for one in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"


@compiles(_Among, "postgresql")
def _in_array(element: _Among, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(one, **options) for one in element.clauses)
    return f"{column} = ANY ({values})"

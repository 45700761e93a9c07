"""What a value must be that somebody else sends, as a JSON Schema: it travels where types cannot."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from paigeant.errors import InvalidArguments

Schema = dict[str, Any]


def described(annotation: Any) -> Schema | None:
    """The JSON Schema of a type; a dict is one already. None for what may be anything, or cannot be described.

    Raises:
        InvalidArguments: the dict is no JSON Schema.
    """
    if annotation is None or annotation is Any:
        return None
    if isinstance(annotation, dict):
        return _checked(annotation)
    try:
        return TypeAdapter(annotation).json_schema()
    except PydanticUserError:
        return None


def _checked(schema: Schema) -> Schema:
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise InvalidArguments(f"this is no JSON Schema: {error.message}") from error
    return schema


def misfit(value: Any, schema: Schema) -> str | None:
    """Where the value is not as the schema says, and how; None if it is. What a schema refers to is not fetched."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        error = best_match(Draft202012Validator(schema, registry=Registry()).iter_errors(value))
    except Unresolvable as unknown:
        return f"its schema refers to what is not in it: {unknown.ref}"
    return None if error is None else f"{error.json_path}: {error.message}"

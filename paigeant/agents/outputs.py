"""The output types of agents, so that paigeant can restore the output of a step from JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import isroutine
from typing import Any, Union, get_origin, get_type_hints

from pydantic.errors import PydanticUserError

from paigeant.wire.values import adapter


def output_type(declared: Any) -> Any:
    """One type for all outputs that an agent's ``output_type`` allows; Any if no type describes them."""
    kinds = tuple(_kinds(declared))
    return Union[kinds] if all(map(_can_be_read, kinds)) else Any  # noqa: UP007 - of any number of types


def _kinds(declared: Any) -> Iterator[Any]:
    """The types of an ``output_type``, which may be a type, a list of types, a marker or a function."""
    match declared:
        case type():
            yield declared
        case list() | tuple() if isinstance(declared, Sequence):
            for one in declared:
                yield from _kinds(one)
        case _ if isroutine(declared):
            yield _returned(declared)
        case object(outputs=several):  # NativeOutput, PromptedOutput
            yield from _kinds(several)
        case object(output_function=function):  # TextOutput
            yield _returned(function)
        case object(output=one):  # ToolOutput
            yield from _kinds(one)
        case _:
            yield declared if get_origin(declared) is not None else Any


def _returned(function: Any) -> Any:
    try:
        return get_type_hints(function).get("return", Any)
    except (NameError, TypeError):
        return Any


def _can_be_read(kind: Any) -> bool:
    try:
        adapter(kind)
    except PydanticUserError:
        return False
    return True

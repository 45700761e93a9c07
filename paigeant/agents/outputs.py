"""The types of what agents give, so that a step's output can be read again as what it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import isroutine
from typing import Any, Union, get_origin, get_type_hints

from pydantic.errors import PydanticUserError

from paigeant.values import adapter


def output_type(declared: Any) -> Any:
    """One type for all that an agent's ``output_type`` allows; Any where no type says it."""
    kinds = tuple(_kinds(declared))
    return Union[kinds] if all(map(_can_be_read, kinds)) else Any  # noqa: UP007 - of as many as there are


def _kinds(declared: Any) -> Iterator[Any]:
    """What a model may answer with, by pydantic-ai's ways to say it: types, several of them, markers and functions."""
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

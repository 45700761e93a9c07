"""What a function takes, and how it is run: read from its signature, once."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, get_type_hints

from fast_depends.dependencies import Dependant

from paigeant.context import takes_context
from paigeant.errors import ConfigurationError
from paigeant.values import reviver

_MISSING: Any = inspect.Parameter.empty
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Kind(Enum):
    """How the function is run."""

    SYNC = "sync"
    ASYNC = "async"
    STREAM = "stream"
    """An async generator."""
    GENERATOR = "generator"
    """A plain one."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter that a value can be given for."""

    name: str
    annotation: Any
    default: Any
    revive: Callable[[Any], Any]

    @property
    def is_required(self) -> bool:
        return self.default is _MISSING


@dataclass(frozen=True, slots=True)
class Signature:
    """What an activity's function takes, sorted by where the values come from."""

    open: dict[str, Parameter]
    contexts: tuple[str, ...]
    dependants: dict[str, Dependant]
    takes_any: bool

    @classmethod
    def of(cls, function: Callable[..., Any], namespace: Mapping[str, Any]) -> Signature:
        """Read the function's signature.

        Raises:
            ConfigurationError: naming a parameter or annotation that cannot work.
        """
        hints = hints_of(function, namespace)
        open_, contexts, dependants, takes_any = {}, [], {}, False
        for name, parameter in inspect.signature(function).parameters.items():
            annotation = hints.get(name, Any)
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                takes_any = True
            elif parameter.kind not in _NAMED:
                raise ConfigurationError(
                    f"{function.__qualname__}: parameter {name!r} cannot be given by name",
                    hint="activities take named parameters only",
                )
            elif isinstance(parameter.default, Dependant):
                dependants[name] = parameter.default
            elif takes_context(annotation):
                contexts.append(name)
            else:
                open_[name] = Parameter(name, annotation, parameter.default, _reviver(function, name, annotation))
        return cls(open_, tuple(contexts), dependants, takes_any)


def kind_of(function: Callable[..., Any]) -> Kind:
    """How a function is run.

    Raises:
        ConfigurationError: it cannot be.
    """
    call = _routine(function)
    if inspect.isasyncgenfunction(call):
        return Kind.STREAM
    if inspect.iscoroutinefunction(call):
        return Kind.ASYNC
    return Kind.GENERATOR if inspect.isgeneratorfunction(call) else Kind.SYNC


def caller_namespace(depth: int) -> dict[str, Any]:
    """The local names where an activity is defined inside a function, so that its annotations can be read."""
    frame = sys._getframe(depth + 1)
    return {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)


def _routine(function: Callable[..., Any]) -> Callable[..., Any]:
    """What runs in the end: under a partial, or behind an object that can be called."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return function
    call: Callable[..., Any] = getattr(function, "__call__", function)  # noqa: B004
    return call


def hints_of(function: Callable[..., Any], namespace: Mapping[str, Any]) -> dict[str, Any]:
    """What is annotated, by the names of the parameters and as ``return``.

    Raises:
        ConfigurationError: an annotation that is not defined.
    """
    target = _routine(function)
    try:
        return get_type_hints(target, localns=dict(namespace), include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"{target.__qualname__}: annotation {error.name!r} is not defined",
            hint="import it at run time, not under TYPE_CHECKING",
        ) from error


def _reviver(function: Callable[..., Any], name: str, annotation: Any) -> Callable[[Any], Any]:
    try:
        return reviver(annotation)
    except Exception as error:
        raise ConfigurationError(
            f"{function.__qualname__}: pydantic cannot check parameter {name!r}: {str(error).splitlines()[0]}",
            hint="annotate it with a type pydantic knows, or get it from Depends(...)",
        ) from error

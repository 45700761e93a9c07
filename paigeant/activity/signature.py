"""Reads a function's signature: which arguments it takes, where they come from, and how a worker runs it."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NotRequired, Required, get_args, get_origin, get_type_hints

from fast_depends.dependencies import Dependant
from typing_extensions import Unpack, is_typeddict

from paigeant.context import takes_context
from paigeant.errors import ConfigurationError
from paigeant.wire.typed_values import Form, form_of

_MISSING: Any = inspect.Parameter.empty
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Kind(Enum):
    """How a worker runs the function."""

    SYNC = "sync"
    ASYNC = "async"
    STREAM = "stream"
    """An async generator."""
    GENERATOR = "generator"
    """A plain generator."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter that an argument, a variable or a previous output can fill."""

    name: str
    annotation: Any
    default: Any
    form: Form
    is_required: bool

    @property
    def has_default(self) -> bool:
        """Whether the function has a default. An optional key of ``**options: Unpack[...]`` has none."""
        return not self.is_required and self.default is not _MISSING


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of an activity's function, grouped by the source of their values."""

    open: dict[str, Parameter]
    contexts: tuple[str, ...]
    dependants: dict[str, Dependant]
    rest: Parameter | None
    """The parameter that describes each value of ``**kwargs``, if the function takes any."""

    @property
    def takes_any(self) -> bool:
        """Whether the function takes arguments of any name."""
        return self.rest is not None

    def parameter(self, name: str) -> Parameter | None:
        """Return the parameter for an argument of this name, or None."""
        return self.open.get(name, self.rest)

    @classmethod
    def of(cls, function: Callable[..., Any], namespace: Mapping[str, Any]) -> Signature:
        """Read the function's signature.

        Raises:
            ConfigurationError: a parameter or annotation cannot work; the error names it.
        """
        hints = hints_of(function, namespace)
        open_, contexts, dependants, rest = dict[str, Parameter](), [], {}, None
        for name, parameter in inspect.signature(function).parameters.items():
            annotation = hints.get(name, Any)
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                if (keys := _unpacked(annotation)) is not None:
                    open_ |= _keys(function, keys)
                else:
                    rest = _parameter(function, name, annotation, _MISSING, is_required=False)
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
                is_required = parameter.default is _MISSING
                open_[name] = _parameter(function, name, annotation, parameter.default, is_required=is_required)
        return cls(open_, tuple(contexts), dependants, rest)


def refuse_method(function: Callable[..., Any]) -> None:
    """Raise ConfigurationError for a function in the body of a class: a worker has no instance to call it on."""
    owner = getattr(function, "__qualname__", "").rpartition(".")[0]
    first = next(iter(getattr(getattr(function, "__code__", None), "co_varnames", ())), None)
    if owner and not owner.endswith("<locals>") and inspect.isfunction(function) and first in ("self", "cls"):
        raise ConfigurationError(
            f"{function.__qualname__} is a method, and a worker has no {owner.rpartition('.')[2]} to call it on",
            hint="decorate a function; it can get objects that it needs from Depends(...)",
        )


def kind_of(function: Callable[..., Any]) -> Kind:
    """Return how a worker runs this function: plain, async, or as a generator."""
    call = _routine(function)
    if inspect.isasyncgenfunction(call):
        return Kind.STREAM
    if inspect.iscoroutinefunction(call):
        return Kind.ASYNC
    return Kind.GENERATOR if inspect.isgeneratorfunction(call) else Kind.SYNC


def caller_namespace(depth: int) -> dict[str, Any]:
    """Return the local names of the function that defines an activity, to resolve the activity's annotations."""
    frame = sys._getframe(depth + 1)
    return {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)


def _routine(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function inside a partial, or the ``__call__`` of a callable object."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return function
    call: Callable[..., Any] = getattr(function, "__call__", function)  # noqa: B004
    return call


def hints_of(function: Callable[..., Any], namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return the annotations by parameter name; the return type has the name ``return``.

    Raises:
        ConfigurationError: an annotation is not defined.
    """
    target = _routine(function)
    try:
        return get_type_hints(target, localns=dict(namespace), include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"{target.__qualname__}: annotation {error.name!r} is not defined",
            hint="import it at run time, not under TYPE_CHECKING",
        ) from error


def _parameter(
    function: Callable[..., Any], name: str, annotation: Any, default: Any, *, is_required: bool
) -> Parameter:
    try:
        return Parameter(name, annotation, default, form_of(annotation), is_required)
    except Exception as error:
        raise ConfigurationError(
            f"{function.__qualname__}: pydantic cannot check parameter {name!r}: {str(error).splitlines()[0]}",
            hint="annotate it with a type pydantic knows, or get it from Depends(...)",
        ) from error


def _unpacked(annotation: Any) -> Any:
    """Return the TypedDict of ``**options: Unpack[Options]``, or None."""
    if get_origin(annotation) is Unpack and is_typeddict(get_args(annotation)[0]):
        return get_args(annotation)[0]
    return None


def _keys(function: Callable[..., Any], keys: Any) -> dict[str, Parameter]:
    found = {}
    for name, hint in get_type_hints(keys, include_extras=True).items():
        said, is_required = get_origin(hint), name in keys.__required_keys__
        if said in (Required, NotRequired):  # with postponed annotations, __required_keys__ is wrong
            hint, is_required = get_args(hint)[0], said is Required
        found[name] = _parameter(function, name, hint, _MISSING, is_required=is_required)
    return found

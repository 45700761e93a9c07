"""An activity: a named unit of work, and how its arguments are found."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Any, Generic, ParamSpec, TypeVar, get_args, get_type_hints

from fast_depends.dependencies import Dependant, Provider
from pydantic import ValidationError

from paigeant.context import ActivityContext, takes_context
from paigeant.depends import Providers
from paigeant.errors import ConfigurationError, InvalidArguments, InvalidInput
from paigeant.retry import RetryPolicy
from paigeant.slip import ActivitySpec, RoutingSlip
from paigeant.values import adapter, jsonable, reviver

P = ParamSpec("P")
R = TypeVar("R")

_MISSING: Any = inspect.Parameter.empty
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Kind(Enum):
    """How the function is run."""

    SYNC = "sync"
    ASYNC = "async"
    STREAM = "stream"


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
        hints = _hints(function, namespace)
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


class Activity(Generic[P, R]):
    """A function that workers run as a step. Calling it calls the function, as if it were not decorated."""

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        queue: str | None = None,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        priority: int = 0,
        overrides: Provider | None = None,
        namespace: Mapping[str, Any] | None = None,
    ) -> None:
        self.function = function
        self.name = name or str(getattr(function, "__name__", type(function).__name__))
        self.queue = queue
        self.timeout = timeout
        self.retry = retry or RetryPolicy()
        self.priority = priority
        self.kind = _kind_of(function)
        self.description = (inspect.getdoc(function) or "").partition("\n")[0]
        self.compensation: Callable[..., Any] | None = None
        self._namespace = dict(namespace or {})
        self._overrides = overrides or Provider()
        functools.update_wrapper(self, function, updated=())
        _refuse_bad_options(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<activity {self.name!r}>"

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Methods are not activities: a worker has no instance to call them on."""
        return self

    @functools.cached_property
    def signature(self) -> Signature:
        """Read on first use, when every annotation of the module is defined."""
        return Signature.of(self.function, self._namespace)

    @functools.cached_property
    def providers(self) -> Providers | None:
        """The providers of its ``Depends`` parameters, if it has any."""
        dependants = self.signature.dependants
        return Providers(dependants, self._overrides) if dependants else None

    @functools.cached_property
    def output_type(self) -> Any:
        """The annotated type of one output; a stream's output is the list of what it yields."""
        returned = _hints(self.function, self._namespace).get("return", Any)
        if self.kind is not Kind.STREAM:
            return returned
        yielded = get_args(returned)
        return list[yielded[0]] if yielded else Any  # type: ignore[valid-type]

    # --- planning a step -------------------------------------------------------------------------------------

    def step(self, **arguments: Any) -> ActivitySpec:
        """A step that runs this activity with these arguments; what is left open is filled in on the worker.

        Raises:
            InvalidArguments: for a name the activity does not take or a value of the wrong type.
            NotSerializable: for a value that cannot be written as JSON, naming its path.
        """
        self.refuse_unknown(arguments)
        written = {name: self._written(name, value) for name, value in arguments.items()}
        return self.spec(written)

    def spec(self, written: dict[str, Any]) -> ActivitySpec:
        """A step with arguments that are JSON types already."""
        return ActivitySpec(name=self.name, arguments=written, priority=self.priority)

    def refuse_unknown(self, arguments: Mapping[str, Any]) -> None:
        """Raise InvalidArguments for a name the activity does not take."""
        signature = self.signature
        for name in arguments:
            if name in signature.open or signature.takes_any:
                continue
            near = get_close_matches(name, signature.open, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(signature.open) or 'no arguments'}"
            raise InvalidArguments(f"activity {self.name!r} takes no argument {name!r}", hint=hint)

    def refuse_wrong(self, arguments: Mapping[str, Any]) -> None:
        """Raise InvalidArguments for a JSON value that will not fit its parameter."""
        for name, value in arguments.items():
            if (parameter := self.signature.open.get(name)) is not None:
                try:
                    parameter.revive(value)
                except ValidationError as error:
                    raise InvalidArguments(f"activity {self.name!r}, argument {name!r}: {problem(error)}") from error

    def unfilled(self, arguments: Mapping[str, Any], variables: Mapping[str, Any]) -> list[str]:
        """Required parameters that neither arguments nor variables fill."""
        given = {*arguments, *variables}
        return [name for name, one in self.signature.open.items() if one.is_required and name not in given]

    def _written(self, name: str, value: Any) -> Any:
        parameter = self.signature.open.get(name)
        if parameter is None or parameter.annotation is Any:
            return jsonable(value, f"{self.name}.{name}")
        try:
            checked = adapter(parameter.annotation).validate_python(value)
        except ValidationError as error:
            raise InvalidArguments(f"activity {self.name!r}, argument {name!r}: {problem(error)}") from error
        return jsonable(checked, f"{self.name}.{name}")

    # --- running a step --------------------------------------------------------------------------------------

    def bind(self, step: ActivitySpec, slip: RoutingSlip, context: ActivityContext) -> dict[str, Any]:
        """The arguments of a run, by the order of DESIGN section 5, without those that ``Depends`` gives.

        Raises:
            InvalidInput: naming the parameter that has no value or one of the wrong type.
        """
        given = dict(step.arguments)
        for name, value in (("prompt", step.prompt), ("deps", step.deps)):
            if value is not None:
                given.setdefault(name, value)
        bound: dict[str, Any] = dict.fromkeys(self.signature.contexts, context)
        output_is_free = bool(slip.log)
        for name, parameter in self.signature.open.items():
            if name in given:
                bound[name] = self._revived(parameter, given.pop(name), "argument")
            elif name in slip.variables:
                bound[name] = self._revived(parameter, slip.variables[name], "variable")
            elif output_is_free and (parameter.is_required or slip.log[-1].output is not None):
                output_is_free = False
                bound[name] = self._revived(parameter, slip.log[-1].output, f"the output of {slip.log[-1].name!r}")
            elif parameter.is_required:
                raise InvalidInput(
                    f"activity {self.name!r}: nothing gives parameter {name!r} a value",
                    hint="pass it in .step(...), set a workflow variable of that name, or give it a default",
                )
        if given and not self.signature.takes_any:
            raise InvalidInput(f"activity {self.name!r} takes no argument {next(iter(given))!r}")
        return bound | given

    def _revived(self, parameter: Parameter, value: Any, source: str) -> Any:
        try:
            return parameter.revive(value)
        except ValidationError as error:
            text = f"activity {self.name!r}, parameter {parameter.name!r} ({source}): {problem(error)}"
            raise InvalidInput(text) from error

    # --- taking it back --------------------------------------------------------------------------------------

    def compensate(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorates what takes a completed run of this activity back.

        It is registered with the activity; running compensations is not part of this release.
        """
        self.compensation = function
        return function


def problem(error: ValidationError) -> str:
    """The first thing pydantic finds wrong, without the value (it may be private)."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]


def _refuse_bad_options(activity: Activity[..., Any]) -> None:
    try:
        ActivitySpec(
            name=activity.name,
            queue=activity.queue,
            timeout=activity.timeout,
            retry=activity.retry,
            priority=activity.priority,
        )
    except ValidationError as error:
        raise ConfigurationError(f"activity {activity.name!r}: {problem(error)}") from error


def _routine(function: Callable[..., Any]) -> Callable[..., Any]:
    """What runs in the end: under a partial, or behind an object that can be called."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return function
    call: Callable[..., Any] = getattr(function, "__call__", function)  # noqa: B004
    return call


def _kind_of(function: Callable[..., Any]) -> Kind:
    call = _routine(function)
    if inspect.isasyncgenfunction(call):
        return Kind.STREAM
    if inspect.iscoroutinefunction(call):
        return Kind.ASYNC
    if inspect.isgeneratorfunction(call):
        name = getattr(function, "__qualname__", function)
        raise ConfigurationError(f"{name!r} is a plain generator", hint="make it 'async def' to stream")
    return Kind.SYNC


def _hints(function: Callable[..., Any], namespace: Mapping[str, Any]) -> dict[str, Any]:
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


def caller_namespace(depth: int) -> dict[str, Any]:
    """The local names where an activity is defined inside a function, so that its annotations can be read."""
    frame = sys._getframe(depth + 1)
    return {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)

"""An activity: a named unit of work, and how its arguments are found."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from math import inf
from typing import Any, Generic, ParamSpec, TypeVar, get_args, overload

from fast_depends.dependencies import Provider
from pydantic import ValidationError

from paigeant.activity.depends import Providers
from paigeant.activity.hooks import Hooked, Hooks
from paigeant.activity.signature import Kind, Parameter, Signature, caller_namespace, hints_of, kind_of
from paigeant.context import ActivityContext
from paigeant.errors import ConfigurationError, InvalidArguments, InvalidInput
from paigeant.failure import Verdict
from paigeant.limits.limit import Limit
from paigeant.limits.names import limits_of
from paigeant.retry import ErrorMatch, RetryPolicy, RetryRules
from paigeant.slip import ActivitySpec, RoutingSlip, Undo
from paigeant.values import adapter, jsonable

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

COMPENSATION_RETRY = RetryPolicy(attempts=5)
"""How often a compensation is tried that does not say so itself: giving up leaves something behind."""


class Activity(Hooked, Generic[P, R]):
    """A function that workers run as a step. Calling it calls the function, as if it were not decorated."""

    step_only: frozenset[str] = frozenset()
    """Parameters that only a step itself gives a value, no variable and no output before it."""

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        queue: str | None = None,
        timeout: float | None = None,
        start_timeout: float | None = None,
        heartbeat_timeout: float | None = None,
        retry: RetryPolicy | None = None,
        retry_on: ErrorMatch = BaseException,
        give_up_on: ErrorMatch = (),
        priority: int = 0,
        lock: bool | str = False,
        concurrency: int | Mapping[str, int] | None = None,
        rate: str | Mapping[str, str] | None = None,
        overrides: Provider | None = None,
        namespace: Mapping[str, Any] | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.function = function
        self.name = name or str(getattr(function, "__name__", type(function).__name__))
        self.queue = queue
        self.timeout = timeout
        self.start_timeout = start_timeout
        self.heartbeat_timeout = heartbeat_timeout
        self.retry = retry or RetryPolicy()
        self.rules = RetryRules(retry_on, give_up_on)
        self.priority = priority
        self.limits = limits_of(self.name, lock, concurrency, rate)
        self.kind = kind_of(function)
        self.description = (inspect.getdoc(function) or "").partition("\n")[0]
        self.compensation: Activity[..., Any] | None = None
        self._namespace = dict(namespace or {})
        self._overrides = overrides or Provider()
        self.hooks = Hooks(hooks)
        self._outer_hooks = hooks
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
        """The annotated type of one output: of a generator what it returns, else the list of what it yields."""
        returned = hints_of(self.function, self._namespace).get("return", Any)
        if self.kind not in (Kind.STREAM, Kind.GENERATOR):
            return returned
        given = get_args(returned)
        if self.kind is Kind.GENERATOR and len(given) == 3 and given[2] is not type(None):
            return given[2]
        return list[given[0]] if given else Any  # type: ignore[valid-type]

    @property
    def has_rate(self) -> bool:
        """Whether each start of it needs a turn of a rate limit."""
        return any(one.limit.period is not None for one in self.limits)

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
        """The arguments of a run, without those that ``Depends`` gives.

        In this order: the step's own, the context, a variable of that name, for the first parameter still open the
        output of the step before, the default.

        Raises:
            InvalidInput: naming the parameter that has no value or one of the wrong type.
        """
        bound: dict[str, Any] = dict.fromkeys(self.signature.contexts, context)
        for name, (value, source) in self._given(step, slip).items():
            parameter = self.signature.open.get(name)
            bound[name] = self._revived(parameter, value, source) if parameter else value
        return bound

    def limits_of(self, step: ActivitySpec, slip: RoutingSlip, prefix: str) -> dict[str, Limit]:
        """What a run takes, by key: locks, places of concurrency limits, turns of rate limits.

        Raises:
            InvalidInput: a parameter has no value, or one that cannot be part of a name.
        """
        if not self.limits:
            return {}
        given = {name: value for name, (value, _) in self._given(step, slip).items()}
        defaults = {name: one.default for name, one in self.signature.open.items() if not one.is_required}
        values = {**slip.variables, **defaults, **given}
        return {one.key(prefix, values): one.limit for one in self.limits}

    def _given(self, step: ActivitySpec, slip: RoutingSlip) -> dict[str, tuple[Any, str]]:
        """The JSON value for each parameter that is given one, and where it comes from."""
        arguments = dict(step.arguments)
        for name, value in (("prompt", step.prompt), ("deps", step.deps)):
            if value is not None:
                arguments.setdefault(name, value)
        given: dict[str, tuple[Any, str]] = {}
        output_is_free = bool(slip.log) and not slip.is_back
        for name, parameter in self.signature.open.items():
            if name in arguments:
                given[name] = arguments.pop(name), "argument"
            elif name in self.step_only:
                continue
            elif name in slip.variables:
                given[name] = slip.variables[name], "variable"
            elif output_is_free and (parameter.is_required or slip.log[-1].output is not None):
                output_is_free = False
                given[name] = slip.log[-1].output, f"the output of {slip.log[-1].name!r}"
            elif parameter.is_required:
                raise InvalidInput(
                    f"activity {self.name!r}: nothing gives parameter {name!r} a value",
                    hint="pass it in .step(...), set a workflow variable of that name, or give it a default",
                )
        if arguments and not self.signature.takes_any:
            raise InvalidInput(f"activity {self.name!r} takes no argument {next(iter(arguments))!r}")
        return given | {name: (value, "argument") for name, value in arguments.items()}

    def _revived(self, parameter: Parameter, value: Any, source: str) -> Any:
        try:
            return parameter.revive(value)
        except ValidationError as error:
            text = f"activity {self.name!r}, parameter {parameter.name!r} ({source}): {problem(error)}"
            raise InvalidInput(text) from error

    def judge(self, error: BaseException) -> Verdict | None:
        """What the activity knows about an error of its own; None: nothing that its retry policy does not."""
        return None

    # --- taking it back --------------------------------------------------------------------------------------

    @overload
    def compensate(self, function: F, /) -> F: ...
    @overload
    def compensate(self, /, *, retry: RetryPolicy | None = ..., timeout: float | None = ...) -> Callable[[F], F]: ...

    def compensate(
        self, function: Any = None, /, *, retry: RetryPolicy | None = None, timeout: float | None = None
    ) -> Any:
        """Decorates what takes a completed run of this activity back, when a later step of the workflow fails.

        A parameter of the same name as one of the activity's is given that argument, the first of the others the
        output. ``retry`` and ``timeout`` are its own; by default it is tried five times.

        Raises:
            ConfigurationError: the activity has a compensation already, or the function cannot be one.
        """
        namespace = caller_namespace(1)

        def register(decorated: F) -> F:
            if self.compensation is not None:
                raise ConfigurationError(f"activity {self.name!r} has a compensation already")
            self.compensation = Activity(
                decorated,
                name=self.name,
                queue=self.queue,
                timeout=timeout,
                retry=retry or COMPENSATION_RETRY,
                overrides=self._overrides,
                namespace=namespace,
                hooks=self._outer_hooks,
            )
            return decorated

        return register if function is None else register(function)

    def undo(self, step: ActivitySpec, slip: RoutingSlip) -> Undo | None:
        """How this run is to be taken back, as far as is known before it: the arguments its compensation takes.

        Raises:
            InvalidInput, NotSerializable: an argument is missing, or a default is no JSON.
        """
        if self.compensation is None:
            return None
        defaults = {
            name: jsonable(one.default, f"the default of {self.name}.{name}")
            for name, one in self.signature.open.items()
            if not one.is_required and self.compensation.takes(name)
        }
        given = {name: value for name, (value, _) in self._given(step, slip).items() if self.compensation.takes(name)}
        return Undo(queue=step.queue, arguments=defaults | given)

    def takes(self, name: str) -> bool:
        """Whether an argument of this name can be given."""
        return name in self.signature.open or self.signature.takes_any

    def undo_with(self, undo: Undo, output: Any) -> Undo:
        """The same, now that the output is known."""
        assert self.compensation is not None
        own = [one for name, one in self.compensation.signature.open.items() if name not in self.signature.open]
        if not own or (output is None and not own[0].is_required):
            return undo
        return undo.model_copy(update={"arguments": undo.arguments | {own[0].name: output}})


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
            start_timeout=activity.start_timeout,
            retry=activity.retry,
            priority=activity.priority,
        )
    except ValidationError as error:
        raise ConfigurationError(f"activity {activity.name!r}: {problem(error)}") from error
    silence = activity.heartbeat_timeout
    if silence is not None and not 0 < silence < inf:
        raise ConfigurationError(f"activity {activity.name!r}: heartbeat_timeout: {silence} is no number of seconds")

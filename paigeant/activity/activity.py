"""An activity: a named unit of work. Plans steps of it and binds their arguments."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, get_args, overload

from fast_depends.dependencies import Provider
from pydantic import ValidationError

from paigeant.activity.depends import Providers
from paigeant.activity.hooks import Hooked, Hooks
from paigeant.activity.left_open import OPEN, NamedOnly, closed
from paigeant.activity.options import checked_scopes
from paigeant.activity.signature import (
    Kind,
    Parameter,
    Signature,
    caller_namespace,
    hints_of,
    kind_of,
    refuse_method,
)
from paigeant.context import ActivityContext
from paigeant.decisions.failure import Verdict
from paigeant.decisions.limit import Limit
from paigeant.decisions.lock_names import limits_of
from paigeant.errors import ConfigurationError, InvalidArguments, InvalidInput
from paigeant.runtime.habits import OF_ACTIVITIES, no_attribute
from paigeant.runtime.nearest import did_you_mean
from paigeant.wire.log import Undo
from paigeant.wire.names import check_name
from paigeant.wire.retry import ErrorMatch, RetryPolicy, RetryRules
from paigeant.wire.slip import ActivitySpec, Output, RoutingSlip
from paigeant.wire.times import LONGEST
from paigeant.wire.typed_values import Form, output_form
from paigeant.wire.values import jsonable

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

COMPENSATION_RETRY = RetryPolicy(attempts=5)
"""Default retry policy of compensations. It allows more attempts, because a failed one leaves effects behind."""


class Activity(Hooked, Generic[P, R, Output]):
    """A function that workers run as a step. Calling the activity calls the undecorated function.

    Its type parameters are the function's parameters, the return type of a call, and the output of a step.
    """

    is_agent = False
    """Whether a model decides what a step of the activity does."""

    step_only: frozenset[str] = frozenset()
    """Parameters that take their value only from a step's arguments, never from a variable or a previous output."""

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
        scopes: Collection[str] = (),
        overrides: Provider | None = None,
        namespace: Mapping[str, Any] | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        refuse_method(function)
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
        self.scopes = checked_scopes(self.name, scopes)
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

    if not TYPE_CHECKING:  # so that type checkers report these names, too

        def __getattr__(self, name: str) -> Any:
            """Raise an error that suggests the replacement for an attribute known from other libraries' tasks."""
            if name in OF_ACTIVITIES:
                raise no_attribute(self, name, repr(self), OF_ACTIVITIES, getattr(self, "__name__", "activity"))
            return object.__getattribute__(self, name)  # raises what the lookup before this one raised

    def __get__(self, instance: object, owner: type | None = None) -> Self:
        """Methods are not activities: a worker has no instance to call them on."""
        return self

    @functools.cached_property
    def signature(self) -> Signature:
        """The function's parameters. Read on first use, when every annotation of the module is defined."""
        return Signature.of(self.function, self._namespace)

    @functools.cached_property
    def providers(self) -> Providers | None:
        """The providers of the ``Depends`` parameters, or None if the function has no such parameter."""
        dependants = self.signature.dependants
        return Providers(dependants, self._overrides) if dependants else None

    @functools.cached_property
    def output_type(self) -> Any:
        """The annotated type of a step's output.

        For a generator this is its return type; if it returns nothing, the list of the values that it yields.
        """
        returned = hints_of(self.function, self._namespace).get("return", Any)
        if self.kind not in (Kind.STREAM, Kind.GENERATOR):
            return returned
        given = get_args(returned)
        if self.kind is Kind.GENERATOR and len(given) == 3 and given[2] is not type(None):
            return given[2]
        return list[given[0]] if given else Any  # type: ignore[valid-type]

    @functools.cached_property
    def output_form(self) -> Form:
        """Serializes and validates the output of a step."""
        return output_form(self.output_type)

    @functools.cached_property
    def item_form(self) -> Form:
        """Serializes and validates each value that the function yields."""
        given = get_args(hints_of(self.function, self._namespace).get("return", Any))
        return output_form(given[0] if given else Any)

    @property
    def has_rate(self) -> bool:
        """Whether a rate limit decides when a step of the activity may start."""
        return any(one.limit.period is not None for one in self.limits)

    # --- planning a step -------------------------------------------------------------------------------------

    # A type checker accepts all arguments; or those behind the first or the first two parameters, which are the context
    # and the parameters that the worker fills most often; or no argument. If the context is a later parameter, it
    # accepts every argument, because Python's type system cannot remove a parameter from the middle of a list.
    @overload
    def step(self, unnamed: NamedOnly = ..., /, *args: P.args, **arguments: P.kwargs) -> ActivitySpec[Output]: ...
    @overload
    def step(
        self: Activity[Concatenate[Any, Q], R, Output],
        unnamed: NamedOnly = ...,
        /,
        *args: Q.args,
        **arguments: Q.kwargs,
    ) -> ActivitySpec[Output]: ...
    @overload
    def step(
        self: Activity[Concatenate[Any, Any, Q], R, Output],
        unnamed: NamedOnly = ...,
        /,
        *args: Q.args,
        **arguments: Q.kwargs,
    ) -> ActivitySpec[Output]: ...
    @overload
    def step(self) -> ActivitySpec[Output]: ...
    @overload
    def step(
        self: Activity[Concatenate[Any, ActivityContext, ...], R, Output], **arguments: Any
    ) -> ActivitySpec[Output]: ...
    @overload
    def step(
        self: Activity[Concatenate[Any, Any, ActivityContext, ...], R, Output], **arguments: Any
    ) -> ActivitySpec[Output]: ...
    @overload
    def step(
        self: Activity[Concatenate[Any, Any, Any, ActivityContext, ...], R, Output], **arguments: Any
    ) -> ActivitySpec[Output]: ...
    @overload
    def step(
        self: Activity[Concatenate[Any, Any, Any, Any, ActivityContext, ...], R, Output], **arguments: Any
    ) -> ActivitySpec[Output]: ...

    def step(self, **arguments: Any) -> ActivitySpec[Any]:  # type: ignore[misc]
        """Plan a step that runs this activity with these arguments. The worker fills omitted and ``OPEN`` arguments.

        Raises:
            InvalidArguments: the activity does not take an argument of this name, or a value has the wrong type.
            NotSerializable: a value cannot be serialized as JSON; the error names its path.
        """
        self._refuse_unknown_open(arguments)
        return self.spec(self.serialize(closed(arguments)))

    def serialize(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Serialize arguments to JSON types; raises the same errors as :meth:`step`."""
        self.refuse_unknown(arguments)
        return {name: self._serialize(name, value) for name, value in arguments.items()}

    def written(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Deprecated: call :meth:`serialize`."""
        warnings.warn("Activity.written() is Activity.serialize() now", DeprecationWarning, stacklevel=2)
        return self.serialize(arguments)

    def spec(self, written: dict[str, Any]) -> ActivitySpec[Output]:
        """Plan a step with arguments that are already serialized to JSON types."""
        return ActivitySpec(name=self.name, arguments=written, priority=self.priority)

    def refuse_unknown(self, arguments: Iterable[str]) -> None:
        """Raise InvalidArguments if the activity does not take an argument of one of these names."""
        signature = self.signature
        for name in arguments:
            if name in signature.open or signature.takes_any:
                continue
            hint = did_you_mean(name, signature.open, f"it takes {', '.join(signature.open) or 'no arguments'}")
            raise InvalidArguments(f"activity {self.name!r} takes no argument {name!r}", hint=hint)

    def _refuse_unknown_open(self, arguments: Mapping[str, Any]) -> None:
        """Check the ``OPEN`` arguments. Injected parameters may be ``OPEN``, although they take no argument."""
        injected = {*self.signature.contexts, *self.signature.dependants}
        self.refuse_unknown([name for name, value in arguments.items() if value is OPEN and name not in injected])

    def refuse_wrong(self, arguments: Mapping[str, Any]) -> None:
        """Raise InvalidArguments if a JSON value does not fit its parameter."""
        for name, value in arguments.items():
            if (parameter := self.signature.parameter(name)) is not None:
                try:
                    parameter.form.read(value)
                except ValidationError as error:
                    raise InvalidArguments(f"activity {self.name!r}, argument {name!r}: {problem(error)}") from error

    def unfilled(self, arguments: Mapping[str, Any], variables: Mapping[str, Any]) -> list[str]:
        """Return the required parameters that neither arguments nor variables fill."""
        given = {*arguments, *variables}
        return [name for name, one in self.signature.open.items() if one.is_required and name not in given]

    def _serialize(self, name: str, value: Any) -> Any:
        parameter = self.signature.parameter(name)
        if parameter is None:
            return jsonable(value, f"{self.name}.{name}")
        try:
            return parameter.form.serialize(value, f"{self.name}.{name}")
        except ValidationError as error:
            raise InvalidArguments(f"activity {self.name!r}, argument {name!r}: {problem(error)}") from error

    # --- running a step --------------------------------------------------------------------------------------

    def bind(self, step: ActivitySpec, slip: RoutingSlip, context: ActivityContext) -> dict[str, Any]:
        """Return the arguments of a run, except those that ``Depends`` provides.

        The sources of a value, in this order: the step's arguments, the context, a variable of that name, the output
        of the previous step (for the first required parameter without a value), the default.

        Raises:
            InvalidInput: a parameter has no value, or one of the wrong type; the error names it.
        """
        bound: dict[str, Any] = dict.fromkeys(self.signature.contexts, context)
        for name, (value, source) in self._given(step, slip).items():
            parameter = self.signature.parameter(name)
            bound[name] = self._revived(parameter, value, source) if parameter else value
        return bound

    def limits_of(self, step: ActivitySpec, slip: RoutingSlip, prefix: str) -> dict[str, Limit]:
        """Return the limits that a run needs, by key: locks, concurrency limits and rate limits.

        Raises:
            InvalidInput: a parameter has no value, or one that cannot be part of a name.
        """
        if not self.limits:
            return {}
        given = {name: value for name, (value, _) in self._given(step, slip).items()}
        defaults = {name: one.default for name, one in self.signature.open.items() if one.has_default}
        values = {**slip.variables, **defaults, **given}
        return {one.key(prefix, values): one.limit for one in self.limits}

    def _given(self, step: ActivitySpec, slip: RoutingSlip) -> dict[str, tuple[Any, str]]:
        """Return the JSON value of each parameter that has one, and the source of the value."""
        arguments = dict(step.arguments)
        for name, value in (("prompt", step.prompt), ("deps", step.deps)):
            if value is not None:
                arguments.setdefault(name, value)
        given: dict[str, tuple[Any, str]] = {}
        before = None if slip.is_back else slip.previous
        for name, parameter in self.signature.open.items():
            if name in arguments:
                given[name] = arguments.pop(name), "argument"
            elif name in self.step_only:
                continue
            elif name in slip.variables:
                given[name] = slip.variables[name], "variable"
            elif not parameter.is_required:
                continue
            elif before is not None:
                given[name] = before.output, f"the output of {before.name!r}"
                before = None
            else:
                raise InvalidInput(
                    f"activity {self.name!r}: parameter {name!r} has no value",
                    hint="pass it in .step(...), set a workflow variable of that name, or give it a default",
                )
        if arguments and not self.signature.takes_any:
            raise InvalidInput(f"activity {self.name!r} takes no argument {next(iter(arguments))!r}")
        return given | {name: (value, "argument") for name, value in arguments.items()}

    def _revived(self, parameter: Parameter, value: Any, source: str) -> Any:
        try:
            return parameter.form.read(value)
        except ValidationError as error:
            text = f"activity {self.name!r}, parameter {parameter.name!r} ({source}): {problem(error)}"
            raise InvalidInput(text) from error

    def judge(self, error: BaseException) -> Verdict | None:
        """Return a verdict on an error that the activity itself can judge; None leaves it to the retry policy."""
        return None

    def conversation_of(self, step: ActivitySpec) -> str | None:
        """Return the conversation that a step of the activity belongs to, or None."""
        return None

    # --- compensation ----------------------------------------------------------------------------------------

    @overload
    def compensate(self, function: F, /) -> F: ...
    @overload
    def compensate(self, /, *, retry: RetryPolicy | None = ..., timeout: float | None = ...) -> Callable[[F], F]: ...

    def compensate(
        self, function: Any = None, /, *, retry: RetryPolicy | None = None, timeout: float | None = None
    ) -> Any:
        """Decorate the compensation of this activity: it undoes a completed run when a later step fails.

        A parameter with the name of one of the activity's parameters gets that argument. The first of the other
        parameters gets the output. ``retry`` and ``timeout`` apply to the compensation; the default is five attempts.

        Raises:
            ConfigurationError: the activity already has a compensation, or the function cannot be one.
        """
        namespace = caller_namespace(1)

        def register(decorated: F) -> F:
            if self.compensation is not None:
                raise ConfigurationError(f"activity {self.name!r} already has a compensation")
            self.compensation = Activity(
                decorated,
                name=self.name,
                queue=self.queue,
                timeout=timeout,
                retry=retry or COMPENSATION_RETRY,
                overrides=self._overrides,
                namespace=namespace,
                hooks=self._outer_hooks,
                scopes=self.scopes,
            )
            return decorated

        return register if function is None else register(function)

    def undo(self, step: ActivitySpec, slip: RoutingSlip) -> Undo | None:
        """Return the arguments for the compensation of this run, as far as they are known before the run.

        Raises:
            InvalidInput, NotSerializable: an argument is missing, or a default cannot be serialized as JSON.
        """
        if self.compensation is None:
            return None
        defaults = {
            name: one.form.serialize_if_it_fits(one.default, f"the default of {self.name}.{name}")
            for name, one in self.signature.open.items()
            if one.has_default and self.compensation.takes(name)
        }
        given = {name: value for name, (value, _) in self._given(step, slip).items() if self.compensation.takes(name)}
        return Undo(queue=step.queue, arguments=defaults | given)

    def takes(self, name: str) -> bool:
        """Return whether the activity takes an argument of this name."""
        return name in self.signature.open or self.signature.takes_any

    def undo_with(self, undo: Undo, output: Any) -> Undo:
        """Add the run's output to the arguments of its compensation, if the compensation takes it."""
        assert self.compensation is not None
        own = [one for name, one in self.compensation.signature.open.items() if name not in self.signature.open]
        if not own or (output is None and not own[0].is_required):
            return undo
        return undo.model_copy(update={"arguments": undo.arguments | {own[0].name: output}})


def problem(error: ValidationError) -> str:
    """Describe the first error that pydantic found, without the value, which may be private."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]


def _refuse_bad_options(activity: Activity[..., Any]) -> None:
    check_name("the name of an activity", activity.name)
    check_name(f"the queue of activity {activity.name!r}", activity.queue)
    for limit in activity.limits:
        literally = "".join(text for text, _ in limit.name.parts)
        check_name(f"the name of the {limit.what} of activity {activity.name!r}", literally)
    numbers = {name: getattr(activity, name) for name in ("timeout", "start_timeout", "heartbeat_timeout", "priority")}
    for name, value in numbers.items():
        if isinstance(value, bool) or not (value is None or isinstance(value, int | float)):
            raise ConfigurationError(
                f"activity {activity.name!r}: {name} is {value!r}",
                hint=f"{name} is a number of seconds" if name != "priority" else "priority is a number from 0 to 9",
            )
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
    if silence is not None and not 0 < silence <= LONGEST:
        raise ConfigurationError(
            f"activity {activity.name!r}: heartbeat_timeout: {silence} is no number of seconds up to {LONGEST:g}"
        )

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Generator, Iterator
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel, Field
from unit.builders import entry

from paigeant import OPEN, ActivityContext, App, Depends, RetryPolicy
from paigeant.activity import Activity, Kind
from paigeant.context.state import StepState
from paigeant.errors import ConfigurationError, DuplicateActivity, InvalidArguments, InvalidInput, NotSerializable
from paigeant.transport import Delivery
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec, RoutingSlip

if TYPE_CHECKING:
    from decimal import Decimal


class Customer(BaseModel):
    name: str
    born: date | None = None


def context_for(slip: RoutingSlip) -> ActivityContext:
    """The context of a step of this slip."""
    delivery = Delivery(queue="q", body=b"", tag=1)
    return ActivityContext(StepState.of(PaigeantMessage(routing_slip=slip), delivery))


def bind(activity: Activity[..., Any], *, log: Any = (), variables: Any = None, **spec: Any) -> dict[str, Any]:
    """The arguments of a run: ``log`` holds the outputs of earlier steps."""
    entries = tuple(entry(f"done-{n}", output=output) for n, output in enumerate(log))
    slip = RoutingSlip(
        itinerary=(ActivitySpec(name=activity.name, **spec),), log=entries, variables=dict(variables or {})
    )
    bound = activity.bind(slip.itinerary[0], slip, context_for(slip))
    return {name: value for name, value in bound.items() if not isinstance(value, ActivityContext)}


def one(a): ...
def two(a, b): ...
def defaulted(a, b="default"): ...
def all_defaulted(a="A", b="B"): ...
def with_context(ctx: ActivityContext, a): ...
def with_provider(a, b=Depends(lambda: "provided")): ...
def with_rest(a, **rest): ...
def keyword_only(*, a): ...
def nothing(): ...
def prompted(prompt, deps=None): ...


def required_last(a=1, *, b): ...


# function, arguments, variables, outputs of earlier steps -> what it is called with
ORDER = {
    "an argument": (one, {"a": 1}, {}, [], {"a": 1}),
    "an argument wins over a variable": (one, {"a": 1}, {"a": 2}, [], {"a": 1}),
    "an argument wins over the output": (one, {"a": 1}, {}, [3], {"a": 1}),
    "None is an argument": (one, {"a": None}, {"a": 2}, [3], {"a": None}),
    "a variable of the name": (one, {}, {"a": 2}, [], {"a": 2}),
    "a variable wins over the output": (one, {}, {"a": 2}, [3], {"a": 2}),
    "other variables are not taken": (defaulted, {"a": 1}, {"c": 2}, [], {"a": 1}),
    "the previous output": (one, {}, {}, [3], {"a": 3}),
    "the latest output only": (one, {}, {}, [3, 4], {"a": 4}),
    "the output for the first parameter still open": (two, {"a": 1}, {}, [3], {"a": 1, "b": 3}),
    "the output for the first open one after variables": (two, {}, {"a": 2}, [3], {"a": 2, "b": 3}),
    "no output for an optional parameter": (all_defaulted, {}, {}, [3], {}),
    "the output goes to one parameter": (defaulted, {}, {}, [3], {"a": 3}),
    "an output of None fills a required parameter": (one, {}, {}, [None], {"a": None}),
    "an output of None does not hide a default": (all_defaulted, {}, {}, [None], {}),
    "the output for the first required parameter": (required_last, {}, {}, [3], {"b": 3}),
    "a false output is an output": (one, {}, {}, [0], {"a": 0}),
    "the default": (defaulted, {"a": 1}, {}, [], {"a": 1}),
    "a variable before a default": (defaulted, {"a": 1}, {"b": 2}, [], {"a": 1, "b": 2}),
    "the context takes no value": (with_context, {}, {"ctx": 9}, [3], {"a": 3}),
    "a provider's parameter takes no value": (with_provider, {}, {"b": 9}, [3], {"a": 3}),
    "everything else goes to **rest": (with_rest, {"x": 1, "y": 2}, {}, [3], {"a": 3, "x": 1, "y": 2}),
    "a keyword-only parameter": (keyword_only, {}, {}, [3], {"a": 3}),
    "nothing is asked for": (nothing, {}, {"a": 1}, [3], {}),
}


@pytest.mark.parametrize(("function", "arguments", "variables", "log", "expected"), ORDER.values(), ids=ORDER)
def test_arguments_are_found_in_the_promised_order(app, function, arguments, variables, log, expected):
    """Own arguments, Depends, context, variables, the previous output, defaults."""
    assert bind(app.activity(function), log=log, variables=variables, arguments=arguments) == expected


def with_optional_context(a, ctx: ActivityContext | None = None): ...


@pytest.mark.parametrize("function", [with_context, with_optional_context])
def test_the_context_is_found_by_its_annotation(app, function):
    """Also where it may be None, so that tests can call the function without one."""
    activity = app.activity(function)
    slip = RoutingSlip(itinerary=(ActivitySpec(name=activity.name, arguments={"a": 1}),))
    context = context_for(slip)
    assert activity.bind(slip.itinerary[0], slip, context)["ctx"] is context


def test_prompt_and_deps_of_a_step_are_arguments(app):
    """The source documents' fields of an ActivitySpec."""
    assert bind(app.activity(prompted), prompt="p", deps={"d": 1}) == {"prompt": "p", "deps": {"d": 1}}


def test_values_arrive_as_the_annotated_types(app):
    """From an argument, a variable and the previous output alike."""

    @app.activity
    def typed(who: Customer, on: date, raw: bytes): ...

    bound = bind(typed, log=["_w=="], variables={"on": "2026-01-02"}, arguments={"who": {"name": "Ann"}})
    assert bound == {"who": Customer(name="Ann"), "on": date(2026, 1, 2), "raw": b"\xff"}


MISSING = {
    "nothing at all": (one, {}, {}, [], "parameter 'a' has no value"),
    "one output for two": (two, {}, {}, [3], "parameter 'b' has no value"),
    "unknown argument": (one, {"a": 1, "x": 2}, {}, [], "takes no argument 'x'"),
    "an argument for the context": (with_context, {"a": 1, "ctx": 2}, {}, [], "takes no argument 'ctx'"),
    "an argument for a provider": (with_provider, {"a": 1, "b": 2}, {}, [], "takes no argument 'b'"),
}


@pytest.mark.parametrize(("function", "arguments", "variables", "log", "words"), MISSING.values(), ids=MISSING)
def test_a_missing_or_unknown_argument_is_named(app, function, arguments, variables, log, words):
    """With the activity's name; retrying cannot help."""
    with pytest.raises(InvalidInput, match=words):
        bind(app.activity(function), log=log, variables=variables, arguments=arguments)


def counted(n: int, ratio: float = 1.0): ...


WRONG = {
    "argument": ({"arguments": {"n": "many"}}, r"parameter 'n' \(argument\): .*valid integer"),
    "variable": ({"variables": {"n": "many"}}, r"parameter 'n' \(variable\): .*valid integer"),
    "output": ({"log": ["many"]}, r"parameter 'n' \(the output of 'done'\): .*valid integer"),
}


@pytest.mark.parametrize(("given", "words"), WRONG.values(), ids=WRONG)
def test_a_value_of_the_wrong_type_is_named_with_its_source(app, given, words):
    """But never shown: it may be private."""
    with pytest.raises(InvalidInput, match=words) as caught:
        bind(app.activity(counted), **given)
    assert "many" not in str(caught.value)


# --- planning a step -------------------------------------------------------------------------------------------------


def test_a_step_holds_its_arguments_as_json(app):
    """Ready for the wire; None is a value."""

    @app.activity(priority=3)
    def typed(who: Customer, on: date, note: str | None = "x"): ...

    step = typed.step(who=Customer(name="Ann"), on=date(2026, 1, 2), note=None)
    arguments = {"who": {"name": "Ann", "born": None}, "on": "2026-01-02", "note": None}
    assert step == ActivitySpec(name="typed", arguments=arguments, priority=3)


def hello_of(customer: Customer) -> None: ...


def test_the_old_name_of_serialize_warns_and_returns_the_same(app):
    activity = app.activity(hello_of)

    with pytest.deprecated_call(match="Activity.serialize"):
        arguments = activity.written({"customer": Customer(name="Ann", born=date(2000, 1, 2))})

    assert arguments == activity.serialize({"customer": Customer(name="Ann", born=date(2000, 1, 2))})
    assert arguments == {"customer": {"name": "Ann", "born": "2000-01-02"}}


def test_an_argument_is_brought_to_its_type_at_once(app):
    """What pydantic can convert is converted before it is sent."""
    assert app.activity(counted).step(n="5", ratio=2).arguments == {"n": 5, "ratio": 2.0}


def test_arguments_may_be_left_open(app):
    """The worker fills them from variables and outputs."""
    assert app.activity(counted).step().arguments == {}


def test_open_is_the_same_as_leaving_an_argument_out(app):
    """It is for type checkers; a context and a dependency can be open too."""
    activity = app.activity(with_provider)
    assert activity.step(a=OPEN) == activity.step()
    assert activity.step(a=1, b=OPEN) == activity.step(a=1)
    assert app.activity(with_context).step(ctx=OPEN, a=1).arguments == {"a": 1}
    assert repr(OPEN) == "OPEN"


def test_open_does_not_hide_a_wrong_name(app):
    """A name that the function does not have is refused, whatever its value is."""
    with pytest.raises(InvalidArguments, match="takes no argument 'aa'"):
        app.activity(one).step(aa=OPEN)


def test_an_injected_parameter_takes_no_value(app):
    """Only OPEN is accepted: the worker makes the value."""
    with pytest.raises(InvalidArguments, match="takes no argument 'b'"):
        app.activity(with_provider).step(a=1, b=2)


def test_a_constraint_holds_at_once(app):
    """As written in the annotation."""

    @app.activity
    def few(n: Annotated[int, Field(lt=5)]): ...

    with pytest.raises(InvalidArguments, match=r"activity 'few', argument 'n': Input should be less than 5"):
        few.step(n=5)


@pytest.mark.parametrize(
    ("function", "arguments", "hint"),
    [
        (counted, {"ration": 1.0}, "did you mean 'ratio'?"),
        (counted, {"zzz": 1.0}, "it takes n, ratio"),
        (nothing, {"zzz": 1.0}, "it takes no arguments"),
    ],
)
def test_an_unknown_argument_comes_with_a_hint(app, function, arguments, hint):
    """The nearest name, else all there are."""
    with pytest.raises(InvalidArguments, match="takes no argument") as caught:
        app.activity(function).step(**arguments)
    assert caught.value.hint == hint


def test_an_argument_of_the_wrong_type_is_refused_at_once(app):
    """It never reaches the broker."""
    with pytest.raises(InvalidArguments, match=r"activity 'counted', argument 'n': .*valid integer"):
        app.activity(counted).step(n="many")


def test_an_argument_that_cannot_be_written_is_refused_by_path(app):
    """From the activity's name on."""
    with pytest.raises(NotSerializable, match=r"^one\.a\['x'\]\[0\] cannot"):
        app.activity(one).step(a={"x": [object()]})


def test_arguments_for_rest_are_written_too(app):
    """A value no annotation describes."""
    assert app.activity(with_rest).step(anything=date(2026, 1, 2)).arguments == {"anything": "2026-01-02"}


# --- what can be an activity -----------------------------------------------------------------------------------------


def test_the_decorated_name_stays_callable(app):
    """Tests and other code call it as if it were not decorated."""

    @app.activity
    def double(n: int) -> int:
        """Twice as much.

        And more about it.
        """
        return n * 2

    assert double(4) == 8
    assert (double.name, double.__name__, double.__doc__.splitlines()[0]) == ("double", "double", "Twice as much.")
    assert double.description == "Twice as much."


def test_options_are_kept(app):
    """Given by the decorator with arguments."""

    @app.activity(name="n", queue="q", timeout=5, retry=RetryPolicy(attempts=3), priority=9)
    async def work(): ...

    assert (work.name, work.queue, work.timeout, work.retry.attempts, work.priority) == ("n", "q", 5, 3, 9)
    assert app.activities == {"n": work}


async def _async(): ...
async def _stream() -> AsyncIterator[int]:
    yield 1


def _generator(n: int) -> Iterator[int]:
    yield n


def _returning(n: int) -> Generator[int, None, str]:
    yield n
    return "done"


class _Sync:
    name = queue = "its own"

    def __call__(self, n: int) -> str: ...


class _Async:
    async def __call__(self, n: int): ...


class _Stream:
    async def __call__(self, n: int) -> AsyncIterator[int]:
        yield n


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (nothing, Kind.SYNC),
        (_async, Kind.ASYNC),
        (_stream, Kind.STREAM),
        (_generator, Kind.GENERATOR),
        (_Sync(), Kind.SYNC),
        (_Async(), Kind.ASYNC),
        (_Stream(), Kind.STREAM),
        (functools.partial(one, a=1), Kind.SYNC),
        (functools.partial(_async), Kind.ASYNC),
        (functools.partial(_stream), Kind.STREAM),
        (len, Kind.SYNC),
    ],
    ids=[
        "function",
        "async function",
        "stream",
        "generator",
        "object",
        "async object",
        "streaming object",
        "partial",
        "async partial",
        "streaming partial",
        "builtin",
    ],
)
def test_anything_that_can_be_called_is_run_as_what_it_is(function, kind):
    """Functions, objects with __call__, partials; sync, async and streams."""
    assert Activity(function, name="x").kind is kind


def test_an_object_that_can_be_called_keeps_its_attributes_to_itself():
    """Its ``name`` is not the activity's."""
    function = _Sync()
    function.timeout = function.retry = "mine"
    activity = Activity(function, name="x")
    assert (activity.name, activity.queue, activity.timeout, activity.retry) == ("x", None, None, RetryPolicy())


def test_an_object_that_can_be_called_is_checked_by_its_signature():
    """As a function is."""
    activity = Activity(_Sync(), name="x")
    assert activity.output_type is str
    with pytest.raises(InvalidArguments, match="argument 'n'"):
        activity.step(n="many")


def test_a_partial_is_checked_by_the_function_under_it():
    """What it fixes need not be given."""
    activity = Activity(functools.partial(counted, ratio=2.0), name="x")
    assert activity.unfilled({}, {}) == ["n"]
    with pytest.raises(InvalidArguments, match="argument 'n'"):
        activity.step(n="many")


def _positional(a, /): ...
def _variadic(*a): ...
def _strange(a: App): ...
def _unknown(a: Decimal): ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (_positional, "_positional: parameter 'a' cannot be given by name"),
        (_variadic, "_variadic: parameter 'a' cannot be given by name"),
        (_strange, "_strange: pydantic cannot check parameter 'a'"),
        (_unknown, "_unknown: annotation 'Decimal' is not defined"),
    ],
    ids=["positional", "variadic", "no pydantic type", "TYPE_CHECKING import"],
)
def test_what_cannot_be_an_activity_is_refused_with_a_hint(function, words):
    """At the latest when its first step is planned."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        Activity(function, name="x").step()
    assert caught.value.hint


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout": 0}, "activity 'one': timeout: .*greater than 0"),
        ({"priority": 10}, "activity 'one': priority: .*less than or equal to 9"),
        ({"name": "a\nb"}, r"the name of an activity is 'a\\nb': it contains U\+000A"),
        ({"queue": "a\x00b"}, r"the queue of activity 'one' is 'a\\x00b': it contains U\+0000"),
        ({"retry": 3}, "activity 'one': retry: "),
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_refused_where_it_is_written(app, options, words):
    """Not when the first step runs."""
    with pytest.raises(ConfigurationError, match=words):
        app.activity(**options)(one)


@pytest.mark.parametrize("thing", ["one", 5, object()], ids=["name", "number", "object"])
def test_what_cannot_be_called_is_refused(app, thing):
    """For example the name of another service's activity."""
    with pytest.raises(ConfigurationError, match="cannot be an activity"):
        app.activity(thing)


def test_two_activities_of_one_name_are_refused(app):
    """Messages carry the name, so it has to be one."""
    app.activity(one)
    with pytest.raises(DuplicateActivity, match="already has an activity 'one'") as caught:
        app.activity(name="one")(two)
    assert caught.value.hint
    assert app.activities["one"].function is one


def test_annotations_may_name_local_classes(app):
    """Activities are defined in functions, too, in tests above all."""

    class Local(BaseModel):
        n: int

    @app.activity
    def takes(value: Local) -> Local: ...

    assert bind(takes, arguments={"value": {"n": 1}}) == {"value": Local(n=1)}
    assert takes.output_type is Local


def test_annotations_may_name_what_is_defined_later(app):
    """The signature is read when it is first needed."""
    activity = app.activity(_later)
    assert bind(activity, arguments={"a": {"n": 1}}) == {"a": Later(n=1)}


def _later(a: Later): ...


class Later(BaseModel):
    n: int


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (nothing, Any),
        (_stream, list[int]),
        (_Stream(), list[int]),
        (_generator, list[int]),
        (_returning, str),
        (_Sync(), str),
        (functools.partial(_Sync()), str),
    ],
    ids=["none", "stream", "streaming object", "generator", "returning generator", "object", "partial"],
)
def test_the_output_type_is_what_the_function_says(function, expected):
    """A generator's output is the list of its values, unless it returns another."""
    assert Activity(function, name="x").output_type == expected


def test_an_activity_in_a_class_body_is_still_an_activity():
    """A worker has no instance to bind it to."""
    app = App("unit", broker="memory://", store="none")

    class Service:
        @app.activity
        def work(a: int): ...

    assert Service().work is Service.work is app.activities["work"]

"""Values on every way to a step: argument, variable, output, compensation, fork; and back to the caller."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterable
from typing import Annotated, Any, NotRequired

import pytest
from pydantic import AfterValidator, BaseModel, SecretStr
from typing_extensions import TypedDict, Unpack

from paigeant import ActivityContext, RetryPolicy, Terminate
from paigeant.errors import ConfigurationError, InvalidArguments, NotSerializable, WorkflowFailed

pytestmark = pytest.mark.anyio

SOON = 30


class Approve(BaseModel):
    reason: str


class Reject(BaseModel):
    reason: str


class Login(BaseModel):
    password: SecretStr


class Price(BaseModel):
    cents: Annotated[int, AfterValidator(lambda euros: euros * 100)]


Cents = Annotated[int, AfterValidator(lambda euros: euros * 100)]


class Options(TypedDict):
    rent: int
    food: NotRequired[int]


@pytest.fixture
def app(make_app, tmp_path):
    return make_app(f"sqlite:///{tmp_path / 'paigeant.db'}")


async def test_the_class_that_was_returned_arrives_everywhere(app, running):
    """Its union has members with equal fields: the next step, the caller, the undoing and a fork see the same one."""
    seen: list[str] = []

    @app.activity
    def check() -> Approve | Reject:
        return Reject(reason="fraud")

    @check.compensate
    def undo(verdict: Approve | Reject) -> None:
        seen.append(f"undo {type(verdict).__name__}")

    @app.activity
    def look(verdict: Approve | Reject) -> Approve | Reject:
        seen.append(f"look {type(verdict).__name__}")
        return verdict

    @app.activity
    def fail(verdict: Approve | Reject) -> None:
        raise ValueError(type(verdict).__name__)

    async with running(app):
        workflow = await app.dispatch(check, look)
        assert await workflow.result(SOON) == Reject(reason="fraud")
        fork = await workflow.fork("look")
        await fork.result(SOON)
        failing = await app.dispatch(check, fail)
        with pytest.raises(WorkflowFailed, match="ValueError: Reject"):
            await failing.result(SOON)
    assert seen == ["look Reject", "look Reject", "undo Reject"]


async def test_a_validator_changes_a_value_once(app, running):
    """Whether it comes as an argument, a variable or an output."""

    @app.activity
    def charge(amount: Cents) -> int:
        return amount

    @app.activity
    def five() -> int:
        return 5

    async with running(app):
        ways = [
            await app.dispatch(charge.step(amount=5)),
            await app.dispatch(charge, variables={"amount": 5}),
            await app.dispatch(five, charge),
        ]
        assert [await workflow.result(SOON) for workflow in ways] == [500, 500, 500]


async def test_a_secret_fails_the_step_that_returns_it(app, running):
    """No other step sees asterisks in its place."""

    @app.activity
    def make() -> Login:
        return Login(password="hunter2")

    @app.activity
    def use(login: Login) -> None: ...

    async with running(app):
        workflow = await app.dispatch(make, use)
        with pytest.raises(WorkflowFailed, match=r"the output of 'make'\.password is a secret"):
            await workflow.result(SOON)
        (step,) = [one for one in (await workflow.record()).steps if one.error]
        assert step.activity == "make"
    with pytest.raises(NotSerializable, match=r"use\.login\.password is a secret"):
        use.step(login=Login(password="hunter2"))
    with pytest.raises(NotSerializable, match="is a secret"):
        await app.dispatch(use, variables={"login": Login(password="hunter2")})


async def test_a_function_behind_an_ordinary_decorator_is_awaited(app, running):
    """What it returns says how it is run: a coroutine, an async generator or a generator."""

    def plain(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    @app.activity
    @plain
    async def fetch(page: int) -> str:
        return f"page {page}"

    @app.activity
    @plain
    async def stream() -> Any:
        yield 1
        yield 2

    @app.activity
    @plain
    def count() -> Any:
        yield 3

    async with running(app):
        results = [await app.dispatch(one) for one in (fetch.step(page=1), stream, count)]
        assert [await workflow.result(SOON) for workflow in results] == ["page 1", [1, 2], [3]]


@pytest.mark.parametrize("items", [["old"], ["old" * 1000] * 100], ids=["small", "large"])
async def test_a_variable_that_is_changed_in_place_counts_as_set(app, running, items):
    """Whether it travels in the message or is kept beside it; and the record knows."""

    @app.activity
    def add(ctx: ActivityContext) -> None:
        ctx.variables["items"].append("new")

    @app.activity
    def last(ctx: ActivityContext) -> str:
        return ctx.variables["items"][-1]

    async with running(app):
        workflow = await app.dispatch(add, last, variables={"items": items})
        assert await workflow.result(SOON) == "new"


async def test_a_failed_attempt_changes_nothing_in_place(app, running):
    """Neither a variable, nor an argument, nor an earlier output."""
    seen: list[Any] = []

    @app.activity
    def make() -> list[int]:
        return [1]

    @app.activity(retry=RetryPolicy(attempts=2, delay=0.01))
    def change(ctx: ActivityContext, given: Any, before: Any) -> None:
        seen.append((len(ctx.variables["items"]), len(given), len(before), len(ctx.output("make"))))
        for one in (ctx.variables["items"], given, before, ctx.output("make")):
            one.append(0)
        if ctx.attempt == 1:
            raise ValueError("again")

    async with running(app):
        workflow = await app.dispatch(make, change.step(given=[1]), variables={"items": [1]})
        await workflow.result(SOON)
    assert seen == [(1, 1, 1, 1)] * 2


async def test_an_iterable_is_a_list(app, running):
    """It can be read twice."""

    @app.activity
    def total(numbers: Iterable[int]) -> list[int]:
        return [sum(numbers), sum(numbers)]

    async with running(app):
        workflow = await app.dispatch(total.step(numbers=[1, 2]))
        assert await workflow.result(SOON) == [3, 3]


async def test_what_goes_to_keyword_arguments_is_checked_at_once(app, running):
    """By the annotation of ``**kwargs``, be it one type for all or a TypedDict."""

    @app.activity
    def total(**amounts: int) -> int:
        return sum(amounts.values())

    @app.activity
    def spend(**options: Unpack[Options]) -> int:
        return sum(options.values())  # type: ignore[arg-type]

    with pytest.raises(InvalidArguments, match="argument 'rent'"):
        total.step(rent="much")
    with pytest.raises(InvalidArguments, match="argument 'food'"):
        spend.step(rent=1, food="much")
    with pytest.raises(InvalidArguments, match="takes no argument 'cars'"):
        spend.step(rent=1, cars=1)
    with pytest.raises(InvalidArguments, match="rent"):
        await app.dispatch(spend.step(food=1))
    async with running(app):
        workflows = [await app.dispatch(total.step(a=1, b="2")), await app.dispatch(spend.step(rent=3))]
        assert [await workflow.result(SOON) for workflow in workflows] == [3, 3]


def test_a_method_is_refused_where_it_is_declared(app):
    """A worker has no instance for it. A static method is a function."""
    with pytest.raises(ConfigurationError, match="ship is a method") as caught:

        class Shop:
            @app.activity
            def ship(self, order: int) -> None: ...

    assert "Depends" in caught.value.hint

    class Other:
        @staticmethod
        @app.activity
        def send(order: int) -> None: ...

    assert Other.send.step(order=1).name == "send"


@pytest.mark.parametrize(
    "options",
    [{"timeout": "5"}, {"start_timeout": "5"}, {"heartbeat_timeout": "5"}, {"priority": "high"}, {"timeout": True}],
    ids=repr,
)
def test_an_option_of_a_wrong_type_is_refused_where_it_is_written(app, options):
    """Not when the step runs."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        app.activity(name="a", **options)(lambda: 1)


async def test_the_history_repeats_no_variable_that_a_step_left_alone(app, running):
    """Only what it set or deleted is written down for a step; a fork and the caller see all of them."""

    @app.activity
    def count_up(ctx: ActivityContext) -> int:
        ctx.variables["n"] = ctx.variables["n"] + 1
        ctx.variables.pop("first", None)
        return len(ctx.variables["document"])

    async with running(app):
        variables = {"n": 0, "first": True, "document": "x" * 50_000}
        workflow = await app.dispatch(*[count_up] * 5, variables=variables)
        assert await workflow.result(SOON) == 50_000
        course = await app.store.course(workflow.correlation_id)
        fork = await workflow.fork("3")
        assert await fork.result(SOON) == 50_000
        seen = [(await one.record()).variables for one in (workflow, fork)]
    assert [(one.variables, one.changes) for one in course.done] == [
        (None, {"set": {"n": 1}, "deleted": ["first"]}),
        *[(None, {"set": {"n": n}, "deleted": []}) for n in range(2, 6)],
    ]
    assert seen == [{"n": 5, "document": "x" * 50_000}] * 2


# --- a union whose members have equal fields -------------------------------------------------------------------------

Verdict = Approve | Reject
NO = Reject(reason="no")


@pytest.fixture
def seen() -> list[Any]:
    return []


@pytest.fixture
def take(app, seen):
    """A step that notes what it is given."""

    @app.activity
    def take(verdict: Verdict) -> None:
        seen.append(verdict)

    return take


async def test_values_that_a_step_yields_keep_their_classes(app, running, seen):
    """In the list that the next step and the caller are given."""

    @app.activity
    async def decide() -> AsyncIterator[Verdict]:
        yield NO
        yield Approve(reason="yes")

    @app.activity
    def take_all(verdicts: list[Verdict]) -> list[Verdict]:
        seen.append(verdicts)
        return verdicts

    async with running(app):
        results = [await (await app.dispatch(*steps)).result(SOON) for steps in ([decide], [decide, take_all])]
    assert [*seen, *results] == [[NO, Approve(reason="yes")]] * 3


async def test_what_ends_a_workflow_keeps_its_class(app, running):
    """If it is what the step declares; it may be something else."""

    @app.activity
    def decide() -> Verdict:
        raise Terminate(NO)

    @app.activity
    def charge() -> Price:
        raise Terminate(Price(cents=1))

    @app.activity
    def skip() -> Any:
        raise Terminate("nothing to do")

    async with running(app):
        assert await (await app.dispatch(decide)).result(SOON) == NO
        assert await (await app.dispatch(skip)).result(SOON) == "nothing to do"
        with pytest.raises(WorkflowFailed, match=r"the output of 'charge'\.cents"):
            await (await app.dispatch(charge)).result(SOON)


async def test_a_default_is_the_same_for_a_compensation(app, running, seen):
    """It is recorded with the step."""

    @app.activity
    def decide(verdict: Verdict = NO) -> None: ...

    @decide.compensate
    def undo(verdict: Verdict) -> None:
        seen.append(verdict)

    @app.activity
    def fail() -> None:
        raise ValueError("no")

    async with running(app):
        with pytest.raises(WorkflowFailed, match="compensated"):
            await (await app.dispatch(decide, fail)).result(SOON)
    assert seen == [NO]


async def test_variables_keep_their_classes(app, running, seen, take):
    """Given at dispatch, set by a step, handed on as JSON, or given to a workflow that a step begins."""

    @app.activity
    def set_it(ctx: ActivityContext) -> None:
        ctx.variables["verdict"] = NO

    @app.activity
    def hand_on(ctx: ActivityContext) -> None:
        ctx.variables["verdict"] = ctx.variables.pop("other")

    @app.activity
    def begin(ctx: ActivityContext) -> None:
        ctx.wait_for(ctx.dispatch(take, variables={"verdict": NO}))

    @app.activity
    def take_other(other: Verdict) -> None:
        seen.append(other)

    async with running(app):
        for steps, variables in [
            ([take], {"verdict": NO}),
            ([set_it, take], {}),
            ([take_other, hand_on, take], {"other": NO}),
            ([begin], {}),
        ]:
            await (await app.dispatch(*steps, variables=variables)).result(SOON)
    assert seen == [NO] * 5


async def test_a_variable_that_would_change_is_refused_where_it_is_set(app, running):
    """At dispatch, or by the step that sets it."""

    @app.activity
    def charge(price: Price) -> None: ...

    @app.activity
    def set_it(ctx: ActivityContext) -> None:
        ctx.variables["price"] = Price(cents=1)

    with pytest.raises(NotSerializable, match=r"variables\['price'\]\.cents"):
        await app.dispatch(charge, variables={"price": Price(cents=1)})
    async with running(app):
        workflow = await app.dispatch(set_it, charge)
        with pytest.raises(WorkflowFailed, match=r"variables\['price'\]\.cents"):
            await workflow.result(SOON)
        assert (await workflow.record()).steps[0].status == "failed"


async def test_what_a_fork_and_an_edit_are_given_keeps_its_class(app, running, seen):
    """As an argument and as a variable."""
    is_down = [True]

    @app.activity
    def decide() -> None: ...

    @app.activity
    def take_both(verdict: Verdict, other: Verdict) -> None:
        if is_down[0]:
            raise ConnectionError("down")
        seen.extend([verdict, other])

    async with running(app):
        yes = Approve(reason="yes")
        workflow = await app.dispatch(decide, take_both.step(verdict=yes), variables={"other": yes})
        with pytest.raises(WorkflowFailed, match="down"):
            await workflow.result(SOON)
        is_down[0] = False
        changes = {"arguments": {"verdict": NO}, "variables": {"other": NO}}
        await (await workflow.fork("take_both", **changes)).result(SOON)
        (letter,) = await app.dead_letters.list()
        await app.dead_letters.edit(letter.id, **changes)
        await workflow.retry()
        await workflow.result(SOON)
    assert seen == [NO] * 4

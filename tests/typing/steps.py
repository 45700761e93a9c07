"""Steps and results as users type them. mypy and pyright read this file in strict mode; nothing runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict, Unpack, assert_type

from pydantic import BaseModel
from pydantic_ai import Agent

from paigeant import (
    OPEN,
    Activity,
    ActivityContext,
    ActivitySpec,
    App,
    BranchResult,
    Condition,
    Depends,
    RetryPolicy,
    RoutingSlip,
    Workflow,
    scatter,
    scatter_map,
    sleep,
)
from paigeant.testing import WorkflowRun, run

app = App("typing")


class Order(BaseModel):
    id: str


class Approve(BaseModel):
    reason: str


class Reject(BaseModel):
    reason: str


# --- what an activity keeps of its function, and what the result of a workflow is ------------------------------------


@app.activity
def add(a: int, b: int = 0) -> int:
    return a + b


@app.activity
async def find(email: str) -> Order:
    return Order(id=email)


@app.activity(name="judge", retry=RetryPolicy(attempts=3), timeout=60)
async def check(order: Order, limit: int) -> Approve | Reject:
    return Approve(reason="small") if limit else Reject(reason="none")


@app.activity
async def words(text: str) -> AsyncIterator[str]:
    for word in text.split():
        yield word


@app.activity
def numbers(upto: int) -> Iterator[int]:
    yield from range(upto)


@app.activity
def total(upto: int) -> Generator[int, None, str]:
    yield from range(upto)
    return "done"


@app.activity
def loose(data: dict[str, Any]) -> dict[str, Any]:
    return data


@app.activity
async def careless(data: Any) -> Any:
    return data


async def calls_keep_their_types() -> None:
    assert_type(add(1, b=2), int)
    finding: Coroutine[Any, Any, Order] = find("a@example.org")
    assert_type(await finding, Order)
    assert_type(await check(Order(id="1"), limit=1), Approve | Reject)
    assert_type([word async for word in words("a b")], list[str])
    assert_type(numbers(3), Iterator[int])
    assert_type(total(3), Generator[int, None, str])


async def results_have_the_type_of_the_last_step() -> None:
    assert_type(await app.dispatch(find.step(email="a"), check.step(limit=1)).result(), Approve | Reject)
    assert_type(app.dispatch(find, add).result_sync(timeout=60), int)
    assert_type(await (await app.dispatch(find)).result(timeout=60), Order)
    assert_type(await app.dispatch("elsewhere", sleep(5), words).result(), list[str])
    assert_type(await app.dispatch(numbers.step(upto=3), variables={"tier": "gold"}).result(), list[int])
    assert_type(await app.dispatch(total.step(upto=3), id="one", deadline=60).result(), str)
    assert_type(await app.dispatch(loose).result(), dict[str, Any])
    assert_type(await (await app.dispatch(find).fork("find")).result(), Order)
    assert_type(run(app, find.step(email="a"), add), WorkflowRun[int])
    assert_type(run(app, find.step(email="a")).result(), Order)


async def a_result_may_be_unknown(steps: list[ActivitySpec], slip: RoutingSlip) -> None:
    assert_type(await app.dispatch(find, "elsewhere").result(), Any)
    assert_type(app.dispatch(find, sleep(5)), Workflow[Any])
    assert_type(app.dispatch(ActivitySpec(name="elsewhere")), Workflow[Any])
    assert_type(app.dispatch(slip), Workflow[Any])
    assert_type(app.dispatch(steps), Workflow[Any])
    assert_type(app.dispatch(*steps), Workflow[Any])
    assert_type(app.dispatch([find, "elsewhere"]), Workflow[Any])
    assert_type(app.dispatch(careless), Workflow[Any])
    assert_type(app.dispatch(find, add.step(a=1).options(when="wanted")), Workflow[Any])
    assert_type(app.dispatch(add.step(a=1).options(timeout=5).options(priority=3)), Workflow[int])
    assert_type(add.step(a=1).options(when=Condition(variable="wanted"), timeout=5), ActivitySpec[Any])


async def a_result_can_be_named(workflow: str) -> None:
    assert_type(await app.dispatch("elsewhere", result_type=Order).result(), Order)
    assert_type(await app.dispatch(find, "elsewhere", result_type=list[Order], name="orders").result(), list[Order])
    assert_type(await app.workflow(workflow, result_type=Order).result(), Order)
    assert_type(app.workflow(workflow), Workflow[Any])
    union: Workflow[Approve | Reject] = app.dispatch("elsewhere", result_type=Approve | Reject)
    assert_type(await union.result(), Approve | Reject)
    old: Workflow = app.dispatch(find)
    assert_type(await old.result(), Any)
    wide: Workflow[BaseModel] = app.dispatch(find)
    await wide


def branches_give_json(mixed: Iterable[ActivitySpec]) -> None:
    both = scatter(find.step(email="a"), ["elsewhere", add.step(a=1)])
    assert_type(app.dispatch(both), Workflow[list[BranchResult[Any]]])
    assert_type(app.dispatch(*mixed, scatter_map(add)), Workflow[list[BranchResult[Any]]])
    named = app.dispatch(both, result_type=list[BranchResult[Order]])
    assert_type(named, Workflow[list[BranchResult[Order]]])


# --- what a step can be given ----------------------------------------------------------------------------------------


class Mailer:
    pass


def mailer() -> Mailer:
    return Mailer()


class Extra(TypedDict):
    subject: str
    priority: NotRequired[int]


@app.activity
def send(ctx: ActivityContext, order: Order, template: str, outbox: Mailer = Depends(mailer)) -> str:
    return f"{order.id} {template}"


@app.activity
def tell(text: str, ctx: ActivityContext, *, loud: bool = False) -> str:
    return text.upper() if loud else text


@app.activity
def book(*, room: str, nights: int, customer: str) -> str:
    return f"{room} {nights} {customer}"


@app.activity
def post(text: str, **extra: Unpack[Extra]) -> str:
    return text + extra["subject"]


@app.activity
def anything(text: str, **more: int) -> str:
    return f"{text} {more}"


class Rooms:
    @app.activity
    @staticmethod
    def free(day: str) -> list[str]:
        return [day]

    def reserve(self, room: str) -> str:
        return room


reserve = app.activity(Rooms().reserve)


@app.activity
def late(text: str, number: int, ctx: ActivityContext) -> str:
    return text * number


@app.activity
def last(a: int, b: int, c: int, d: int, ctx: ActivityContext) -> int:
    return a + b + c + d


@app.activity
def vague(text: str, data: Any) -> str:
    return f"{text} {data}"


@app.activity
def named(*, text: str, ctx: ActivityContext) -> str:
    return text


@send.compensate
def unsend(order: Order, receipt: str) -> None: ...


def steps() -> list[ActivitySpec]:
    assert_type(check.step(order=Order(id="1"), limit=1), ActivitySpec[Approve | Reject])
    assert_type(words.step(text="a b"), ActivitySpec[list[str]])
    base: ActivitySpec[BaseModel] = find.step(email="a")
    return [
        base,
        find.step(),
        check.step(limit=1),
        check.step(order=Order(id="1"), limit=OPEN),
        send.step(order=Order(id="1"), template="welcome"),
        send.step(template="welcome"),
        send.step(),
        tell.step(text="hello", loud=True),
        tell.step(loud=True),
        late.step(text="a", number=2),
        late.step(text="a"),
        last.step(a=1, d=4),
        named.step(text="a", ctx=OPEN),
        vague.step(text="a", data=1),
        book.step(room="A", nights=2, customer="Ada"),
        book.step(room="A", nights=2, customer=OPEN),
        post.step(text="a", subject="b"),
        post.step(subject="b", priority=1),
        anything.step(text="a", one=1, two=2),
        Rooms.free.step(day="Monday"),
        reserve.step(room="A"),
        careless.step(data=[1]),
        loose.step(data={"a": 1}),
    ]


def documented_limits() -> list[ActivitySpec]:
    """Wrong, and reported at run time only: the context is not the first parameter, or could be a later one."""
    return [tell.step(txt="hello"), late.step(number="two"), vague.step(txt="hello")]


def an_activity_can_be_passed_on(one: Activity[[int], int, int], some: Activity[..., Any]) -> Workflow[int]:
    app.dispatch(some, some.step(anything="goes"))
    return app.dispatch(one)


# --- agents ----------------------------------------------------------------------------------------------------------


@dataclass
class Tenant:
    name: str


def tenant(ctx: ActivityContext) -> Iterator[Tenant]:
    yield Tenant(ctx.correlation_id)


writer = app.activity(Agent("test", name="writer"))
clerk = app.activity(Agent("test", deps_type=Tenant, output_type=Order), name="clerk")
guide = app.activity(Agent("test", deps_type=Tenant, output_type=Approve), name="guide", deps=tenant)


async def agents() -> None:
    assert_type(await app.dispatch(writer.step(prompt="Write.", conversation="letters")).result(), str)
    assert_type(await app.dispatch(clerk.step(prompt="Order.", deps=Tenant("acme"))).result(), Order)
    assert_type(await app.dispatch(clerk).result(), Order)
    assert_type(guide.step(prompt="Judge."), ActivitySpec[Approve])

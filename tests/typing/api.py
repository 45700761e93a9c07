"""The public API as its users type it. mypy and pyright read this file in strict mode; nothing runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from paigeant import (
    ActivityContext,
    ActivityExecutor,
    ActivitySpec,
    App,
    PaigeantAgent,
    PaigeantMessage,
    PlannerAgentDeps,
    RetryPolicy,
    RoutingSlip,
    WorkflowDependencies,
    WorkflowDispatcher,
    create_planner_agent,
    get_transport,
)
from paigeant.events import Event, StepCompleted, WorkflowEnded
from paigeant.turns import Agent, Turn, tool

app = App("typing")


@app.activity
async def measure(text: str) -> int:
    return len(text)


@app.activity(name="double", retry=RetryPolicy(attempts=3), timeout=60)
def twice(number: int, ctx: ActivityContext) -> int:
    assert_type(ctx.attempt, int)
    assert_type(ctx.deliveries, int)
    assert_type(ctx.correlation_id, str)
    assert_type(ctx.idempotency_key, str)
    assert_type(ctx.principal, str | None)
    assert_type(ctx.user_claims, Mapping[str, Any] | None)
    assert_type(ctx.scopes, frozenset[str])
    return number * 2


@app.activity(
    retry=RetryPolicy(attempts=5, quick=2, exhausted="park"),
    retry_on=(OSError, TimeoutError),
    give_up_on=lambda error: "404" in str(error),
    start_timeout=60,
    heartbeat_timeout=5,
)
def fetch(url: str, ctx: ActivityContext) -> bytes:
    ctx.heartbeat_sync({"done": 0})
    return url.encode()


@app.activity
async def count(number: int) -> AsyncIterator[int]:
    for value in range(number):
        yield value


async def activities_stay_what_they_were(ctx: ActivityContext) -> None:
    assert_type(await measure("abc"), int)
    assert_type(twice(2, ctx), int)
    async for value in count(3):
        assert_type(value, int)
    assert_type(measure.step(text="abc"), ActivitySpec[int])


def a_plain_program() -> None:
    workflow = app.dispatch(measure.step(text="abc"), twice, "elsewhere", variables={"tier": "premium"})
    assert_type(workflow.correlation_id, str)
    workflow.result_sync(timeout=60)


async def an_async_program() -> None:
    workflow = await app.dispatch(measure.step(text="abc"), count)
    await workflow.result(timeout=60)
    await workflow.status()
    assert_type(await workflow.retry(by="ada", fresh=True), list[str])
    patient = measure.step(text="abc").options(timeout=5, retry=RetryPolicy(attempts=2))
    await app.dispatch(patient, delay=timedelta(minutes=1), expires=60, deadline=datetime.now(UTC) + timedelta(hours=1))
    async for _event in workflow.events():
        break


def the_wire_models_round_trip(message: PaigeantMessage) -> None:
    assert_type(message.step, ActivitySpec)
    assert_type(message.routing_slip, RoutingSlip)
    assert_type(message.to_json(), bytes)
    assert_type(PaigeantMessage.from_json(message.to_json()), PaigeantMessage)
    assert_type(message.routing_slip.next_step(), ActivitySpec | None)


@app.observe
def note(event: Event) -> None: ...


@app.observe(StepCompleted, WorkflowEnded)
def note_some(event: StepCompleted | WorkflowEnded) -> None: ...


def observers_stay_what_they_were(event: WorkflowEnded) -> None:
    note(event)
    note_some(event)


@app.schedule(cron="0 9 * * 1-5", timezone="Europe/Berlin", backfill="all")
def nightly(at: datetime) -> list[ActivitySpec]:
    return [measure.step(text=at.isoformat())]


app.schedule("hourly", measure.step(text="abc"), twice, every=timedelta(hours=1), paused=True)


async def schedules() -> None:
    assert_type(nightly(datetime.now(UTC)), list[ActivitySpec])
    await app.schedules.pause("hourly")
    await app.schedules.run("hourly")
    await app.schedules.delete("gone")
    assert [one.next_at for one in await app.schedules.list() if not one.paused]


@tool(lock=True, permission="admin")
async def greet(name: str, permission: str) -> str:
    return f"{permission} {name}"


async def turns() -> None:
    assert_type(await greet("Ada", permission="guest"), str)
    agent = Agent("greeter", "Greets", [greet], app=app)
    await agent.put(Turn("greet", args=["Ada"], timeout=5))
    async for turn, _value in agent.run():
        assert_type(turn, Turn)


dispatcher = WorkflowDispatcher(get_transport("inmemory"))
writer = PaigeantAgent(
    "anthropic:claude-sonnet-4-5", dispatcher=dispatcher, deps_type=WorkflowDependencies, can_edit_itinerary=True
)


async def the_documents_names() -> None:
    writer.add_to_runway(prompt="Write.", deps=WorkflowDependencies())
    writer.register_activity(prompt="Write again.")
    assert_type(await dispatcher.dispatch_workflow(), str)
    assert_type(await dispatcher.dispatch_workflow([ActivitySpec(name="elsewhere"), writer], obo_token="token"), str)
    executor = ActivityExecutor("redis", "writer", "jokes", concurrency=5)
    await executor.start()
    planner = create_planner_agent("openai:gpt-5")
    deps = PlannerAgentDeps(workflow_dispatcher=dispatcher, user_obo_token="token")
    assert_type((await planner.run("Welcome Ada.", deps=deps)).output, str)

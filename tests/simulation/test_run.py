"""One workflow, in this process, on a clock that takes no time."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from paigeant import ActivityContext, App, Depends, await_signal, sleep
from paigeant.errors import InvalidArguments, WorkflowFailed
from paigeant.testing import run


def test_the_output_and_what_led_to_it(app, steps):
    """Typed; with the output of each step, the messages and the events."""

    class Letter(BaseModel):
        to: str

    @app.activity
    def write(n: int) -> Letter:
        return Letter(to=str(n))

    ran = run(app, steps["double"].step(x=2), steps["increase"], write)
    assert (ran.status, ran.result()) == ("completed", Letter(to="5"))
    assert ran.outputs() == {"double": 4, "increase": 5, "write": {"to": "5"}}
    assert [message.step.name for message in ran.messages] == ["double", "increase", "write"]
    assert [event.type for event in ran.events][-1] == "workflow_completed"


def test_days_pass_at_once(app, steps):
    """By the length of a sleep, and up to a time."""
    begun = time.monotonic()
    start = datetime(2026, 3, 1, tzinfo=UTC)
    ran = run(app, steps["double"].step(x=2), sleep(7 * 86400), sleep(until=start + timedelta(days=30)), start=start)
    assert (ran.result(), round(ran.seconds / 86400, 2)) == (4, 30)
    assert time.monotonic() - begun < 30


def test_an_activity_that_works_for_long_takes_no_time(app):
    """asyncio.sleep() and timeouts follow the same clock."""

    @app.activity(timeout=3600)
    async def work() -> str:
        await asyncio.sleep(1800)
        return "done"

    @app.activity(timeout=600)
    async def too_long() -> None:
        await asyncio.sleep(1800)

    assert run(app, work).result() == "done"
    with pytest.raises(WorkflowFailed, match="TimeoutError"):
        run(app, too_long).result()


def test_a_plain_function_believes_itself_in_a_thread(app):
    """It reports progress, and runs a loop of its own."""

    @app.activity(timeout=60)
    def work(ctx: ActivityContext) -> int:
        ctx.heartbeat_sync({"half": True})
        return asyncio.run(asyncio.sleep(0, 42))

    ran = run(app, work)
    assert ran.result() == 42
    assert [event.data["value"] for event in ran.events if event.type == "step_progressed"] == [{"half": True}]


def test_signals_children_retries(app, steps):
    """All of it works as it does with a worker."""
    assert run(app, steps["family"].step(x=2), steps["second_try"], signals=[("more", 1)]).result() == 5


def test_a_signal_that_is_not_given_is_waited_for(app, steps):
    """The run is over when nothing goes on."""
    ran = run(app, steps["double"].step(x=2), await_signal("never"))
    assert (ran.status, ran.output, ran.failure) == ("waiting", None, None)


def test_providers_are_replaced_and_plain_ones_need_no_thread(app):
    """Generators are closed."""
    closed = []

    def rate() -> float:
        raise AssertionError("this one asks a server")

    def fixed():
        yield 1.5
        closed.append(True)

    @app.activity
    def price(amount: int, factor: float = Depends(rate)) -> float:
        return amount * factor

    with app.override(rate, fixed):
        assert run(app, price.step(amount=2)).result() == 3.0
    assert closed == [True]


def test_an_agent_runs_on_a_test_model(app):
    """Its plain tools, too, run without a thread."""
    agent = Agent(TestModel(custom_output_text="Dear Ada"), name="writer")

    @agent.tool_plain
    def city() -> str:
        return "Turin"

    writer = app.activity(agent)
    assert run(app, writer.step(prompt="Welcome her.")).result() == "Dear Ada"


@pytest.mark.anyio
async def test_it_runs_beside_a_running_loop(app, steps):
    """So that async tests can call it."""
    assert run(app, steps["double"].step(x=2)).result() == 4


def test_what_nobody_serves_stays_where_it_is(app, steps):
    """The run ends at its limit."""
    ran = run(app, steps["double"].step(x=2), "elsewhere", limit=5)
    assert (ran.status, [step.status for step in ran.record.steps]) == ("waiting", ["completed", "pending"])


def test_a_killed_process_says_nothing_more(app):
    """Not even in ``finally``, before everything is over."""
    from paigeant.testing import Fault, FaultPlan, simulate

    said: list[str] = []
    at_the_end: list[list[str]] = []

    @app.activity
    async def careful(ctx: ActivityContext) -> int:
        said.append(f"begins {ctx.deliveries}")
        try:
            await asyncio.sleep(2)
            return ctx.deliveries
        finally:
            said.append(f"ends {ctx.deliveries}")

    @app.activity
    async def last(n: int) -> int:
        at_the_end.append(list(said))
        return n

    # The worker runs both workflows' steps at once; it dies of a note that it makes while one is under way.
    plan = FaultPlan(faults=(Fault("crash", "note"),))
    report = simulate(app, careful, last, plans=[plan], tiers=["fenced"], before_each=said.clear)
    assert report.outputs == [1, 2]
    assert at_the_end[1] == ["begins 1", "begins 2", "ends 2"]


def test_an_error_of_the_caller_leaves_nothing_behind(app, steps):
    """It comes out as it is, and the next run is as good as the first."""
    with pytest.raises(InvalidArguments, match="needs 'x'"):
        run(app, steps["double"])
    assert run(app, steps["double"].step(x=2)).result() == 4


def test_nothing_is_connected(tmp_path):
    """Whatever the App is set up with."""
    app = App("far", "amqp://nobody@192.0.2.1//", "postgresql://nobody@192.0.2.1/none")

    @app.activity
    def here() -> str:
        return "here"

    assert run(app, here).result() == "here"
    assert list(tmp_path.iterdir()) == []


def test_schedules_rest(app, steps):
    """What is run is this workflow, not what else the App does while its days go by."""
    app.schedule("often", steps["double"].step(x=1), every=1)
    ran = run(app, steps["double"].step(x=2), sleep(30 * 86400))
    assert {message.correlation_id for message in ran.messages} == {ran.record.correlation_id}

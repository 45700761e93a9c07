"""The worker: what it takes, what it gives back, and how it ends."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

import pytest
from helpers import until_async

from paigeant import ActivityContext, App, RetryPolicy, Worker
from paigeant.errors import ConfigurationError, StoreError, TransportError, WorkflowFailed, WorkflowTimeout
from paigeant.events import Event
from paigeant.message import PaigeantMessage
from paigeant.slip import ActivitySpec, RoutingSlip
from paigeant.transport import Outgoing

pytestmark = pytest.mark.anyio

SOON = 20


@dataclass
class Gate:
    """A step that says when it runs and waits to be let on."""

    runs: int = 0
    ended: int = 0
    running: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, ctx: ActivityContext) -> list[int]:
        self.runs += 1
        self.running.set()
        try:
            await self.go_on.wait()
        finally:
            self.ended += 1
        return [ctx.attempt, ctx.deliveries]


@pytest.fixture
def gate(app) -> Gate:
    made = Gate()
    app.activity(name="gate")(made)
    return made


# --- whose message is it ---------------------------------------------------------------------------------------------


async def test_two_apps_on_one_broker_do_not_steal_from_each_other(make_app, broker, prefix, running):
    """Activities of the same name are served from queues of their own."""
    apps = [make_app(broker, queue_prefix=f"{prefix}-{name}") for name in ("one", "two")]
    for app in apps:

        def who(me: str = app.prefix) -> str:
            return me

        app.activity(who)
    async with running(apps[0]), running(apps[1]):
        for app in apps * 3:
            assert await (await app.dispatch("who")).result(SOON) == app.prefix


async def test_a_workflow_may_pass_through_several_services(make_app, broker, prefix, running):
    """Each knows only the names, or the queues, of what the others serve."""
    orders = make_app(broker, queue_prefix=prefix)
    same_prefix = make_app(broker, orders.store.url, queue_prefix=prefix)
    other_prefix = make_app(broker, orders.store.url, queue_prefix=f"{prefix}-other")
    for app in (same_prefix, other_prefix):
        app.__dict__["store"] = orders.store

    @orders.activity
    async def begin() -> list[str]:
        return ["begin"]

    @same_prefix.activity
    async def middle(so_far: list[str]) -> list[str]:
        return [*so_far, "middle"]

    @other_prefix.activity
    async def end(so_far: list[str]) -> list[str]:
        return [*so_far, "end"]

    async with running(orders), running(same_prefix), running(other_prefix):
        far = ActivitySpec(name="end", queue=other_prefix.queue_of(end))
        workflow = await orders.dispatch(begin, "middle", far)
        assert await workflow.result(SOON) == ["begin", "middle", "end"]


async def test_when_one_app_has_ended_the_others_on_its_broker_go_on(make_app, broker, prefix, running):
    """They share the connection of the process."""
    apps = [make_app(broker, queue_prefix=f"{prefix}-{name}") for name in ("one", "two")]
    for app in apps:
        app.activity(name="work")(lambda: "fine")
    async with running(apps[0]):
        async with running(apps[1]):
            assert await (await apps[1].dispatch("work")).result(SOON) == "fine"
        assert await (await apps[0].dispatch("work")).result(SOON) == "fine"


async def test_a_step_that_is_not_served_goes_back_unharmed(make_app, broker, running, monkeypatch):
    """Another worker on the queue takes it."""
    monkeypatch.setattr("paigeant.runner.runner.RETURN_DELAY", 0.05)
    app = make_app(broker)

    @app.activity(queue="shared")
    async def mine() -> str:
        return "mine"

    @app.activity(queue="shared")
    async def other(ctx: ActivityContext) -> list[int]:
        return [ctx.attempt, ctx.deliveries]

    async with running(app, only=["mine"]):
        workflow = await app.dispatch(other)
        assert await (await app.dispatch(mine)).result(SOON) == "mine"
        with pytest.raises(WorkflowTimeout):
            await workflow.result(0.3)
        everyone = make_app(broker)
        everyone.__dict__["store"] = app.store
        everyone.activity(queue="shared")(other.function)
        async with running(everyone, only=["other"]):
            assert (await workflow.result(SOON))[0] == 1


async def test_a_worker_serves_only_what_it_is_told(app, running):
    """By the activities' names."""

    @app.activity
    async def mine() -> str:
        return "mine"

    @app.activity
    async def other() -> None: ...

    async with running(app, only=["mine"]) as worker:
        workflow = await app.dispatch(mine, other)

        async def first_is_done():
            return (await workflow.record()).steps[0].status == "completed"

        await until_async(first_is_done)
        assert worker.queues == (f"{app.prefix}.mine", f"{app.prefix}.paigeant")
        assert (await workflow.record()).steps[1].status == "pending"


async def test_a_worker_takes_other_queues_when_told(app, running):
    """By their whole names."""

    @app.activity
    async def work() -> str:
        return "done"

    async with running(app, queues=[f"{app.prefix}-else"]):
        workflow = await app.dispatch(ActivitySpec(name="work", queue=f"{app.prefix}-else"))
        assert await workflow.result(SOON) == "done"


async def test_no_more_steps_run_at_once_than_wanted(app, running):
    """The rest waits."""
    now, most = 0, 0

    @app.activity
    async def work() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    async with running(app, concurrency=2, prefetch=8):
        workflows = [await app.dispatch(work) for _ in range(12)]
        await asyncio.gather(*[workflow.result(SOON) for workflow in workflows])
    assert most <= 2


async def test_a_plain_functions_concurrency_has_threads(app, running):
    """As many at once as wanted."""
    import threading

    together = threading.Barrier(3, timeout=15)

    @app.activity
    def work() -> int:
        return together.wait()

    async with running(app, concurrency=3):
        workflows = [await app.dispatch(work) for _ in range(3)]
        assert sorted(await asyncio.gather(*[one.result(SOON) for one in workflows])) == [0, 1, 2]


@pytest.mark.parametrize(
    ("only", "words"), [(["missing"], "has no activity 'missing'"), ([], "has no activities to serve")]
)
async def test_a_worker_with_nothing_to_serve_is_refused(make_app, only, words):
    """Before it connects."""
    app = make_app("memory://")
    if only:
        app.activity(name="present")(lambda: None)
    with pytest.raises(ConfigurationError, match=words) as caught:
        Worker(app, only=only)
    assert caught.value.hint


@pytest.mark.parametrize("url", ["sqlite:////no/such/folder/x.db", "postgresql://me:secret@127.0.0.1:1/none"])
async def test_a_worker_that_cannot_connect_says_so_at_the_start(make_app, url):
    """Rather than trying for ever; without the password."""
    app = make_app(url)
    app.activity(name="work")(lambda: None)
    with pytest.raises((TransportError, StoreError)) as caught:
        await Worker(app).run()
    assert "secret" not in str(caught.value)


# --- how it ends -----------------------------------------------------------------------------------------------------


async def test_a_burst_ends_when_nothing_is_left(app, running):
    """Steps that follow and retries that are due are done first."""

    @app.activity(retry=RetryPolicy(attempts=2, delay=0.3, jitter=False))
    async def flaky(n: int, ctx: ActivityContext) -> int:
        if ctx.attempt == 1:
            raise ValueError
        return n + 1

    workflows = [await app.dispatch(flaky.step(n=n), flaky) for n in range(3)]
    store = app.store
    results = asyncio.gather(*[workflow.result(SOON) for workflow in workflows])
    await asyncio.wait_for(Worker(app, burst=True).run(), SOON)
    if store.ledger() is not None:
        assert await results == [2, 3, 4]
    results.cancel()


async def test_a_burst_without_work_ends_at_once(app):
    """For cron."""
    app.activity(name="work")(lambda: None)
    await asyncio.wait_for(Worker(app, burst=True).run(), 5)


async def test_the_first_stop_lets_running_steps_finish(app, gate, running):
    """And takes nothing new."""
    serving = running(app, concurrency=1)
    async with serving as worker:
        workflow = await app.dispatch("gate")
        waiting = await app.dispatch("gate")
        await gate.running.wait()
        store = app.store
        result = asyncio.ensure_future(workflow.result(SOON))
        worker.stop()
        asyncio.get_running_loop().call_later(0.1, gate.go_on.set)
        assert await result == [1, 1]
    assert (gate.runs, gate.ended) == (1, 1)
    if store.ledger() is not None:
        assert await app.workflow(waiting.correlation_id).status() == "running"


async def test_the_second_stop_hands_running_steps_back(make_app, tmp_path, running):
    """At once; another worker runs them as if they had never been handed out."""
    url = f"sqlite:///{tmp_path / 'paigeant.db'}"
    app, gate = make_app(url), Gate()
    app.activity(name="gate")(gate)
    async with running(app, shutdown_timeout=600) as worker:
        workflow = await app.dispatch("gate")
        await gate.running.wait()
        worker.stop()
        worker.stop()
    assert (gate.runs, gate.ended) == (1, 1)
    gate.go_on.set()
    async with running(app):
        assert await app.workflow(str(workflow)).result(SOON) == [1, 1]


async def test_steps_that_do_not_finish_in_time_are_handed_back(make_app, tmp_path, running):
    """The shutdown timeout is the longest a stop takes."""
    url = f"sqlite:///{tmp_path / 'paigeant.db'}"
    app, gate = make_app(url), Gate()
    app.activity(name="gate")(gate)
    async with running(app, shutdown_timeout=0.1) as worker:
        await app.dispatch("gate")
        await gate.running.wait()
        worker.stop()
    assert (gate.runs, gate.ended) == (1, 1)
    assert (await app.transport.queues())[f"{app.prefix}.gate"] == 1


async def test_a_worker_is_known_while_it_serves(make_app, tmp_path, running):
    """With what it serves; after an orderly end no more."""
    app = make_app(f"sqlite:///{tmp_path / 'paigeant.db'}")
    app.activity(name="work")(lambda: None)
    async with running(app, name="me", concurrency=3):

        async def known():
            return await app.store.workers()

        (found,) = await until_async(known)
        assert (found.id, found.alive, found.activities, found.concurrency) == ("me", True, ("work",), 3)
    assert await app.store.workers() == []


# --- messages that are none ------------------------------------------------------------------------------------------


def _message(**changes: object) -> bytes:
    message = PaigeantMessage(routing_slip=RoutingSlip(itinerary=(ActivitySpec(name="work"),)))
    return json.dumps(message.to_dict() | changes).encode()


BAD = {
    "garbage": (b"\x00\xff\xfe", "MalformedMessage: not a paigeant message"),
    "wrong JSON": (b'{"spec_version": "1.0"}', "MalformedMessage: not a paigeant message"),
    "another version": (_message(spec_version="2.0"), "UnsupportedVersion: spec_version '2.0'"),
    "a wrong id": (_message(id="0" * 32), "does not belong to this step"),
    "too large": (_message(name="x" * 20_000), "MessageTooLarge: "),
    "a NUL in a key": (_message(trace_context={"a\x00": 5}), r"trace_context.a\x00"),
}


@pytest.mark.parametrize(("body", "reason"), BAD.values(), ids=BAD)
async def test_a_message_that_cannot_be_read_is_set_aside_with_its_bytes(make_app, broker, running, body, reason):
    """With a reason, and the next message is served."""
    app = make_app(broker, message_limit=10_000)

    @app.activity
    async def work() -> str:
        return "fine"

    async with running(app):
        await app.transport.send([Outgoing(queue=app.queue_of(work), body=body, id="m")])
        assert await (await app.dispatch(work)).result(SOON) == "fine"

        async def letters():
            return await app.store.dead_letters()

        (letter,) = await until_async(letters)
        assert (letter.body, letter.queue) == (body, app.queue_of(work))
        assert reason in letter.reason
        assert await app.transport.depth(app.queue_of(work)) == 0


async def test_without_a_store_what_cannot_be_read_waits_in_a_queue_of_its_own(make_app, broker, running):
    """Nothing is ever dropped."""
    app = make_app(broker, "none")
    app.activity(name="work")(lambda: None)
    async with running(app):
        await app.transport.send([Outgoing(queue=f"{app.prefix}.work", body=b"garbage")])

        async def kept():
            return await app.transport.depth(f"{app.prefix}.dead-letter")

        assert await until_async(kept) == 1


async def test_a_message_that_names_something_to_import_imports_nothing(app, running, monkeypatch):
    """It is a name like any other, and goes back."""
    monkeypatch.setattr("paigeant.runner.runner.RETURN_DELAY", 0.05)
    app.activity(name="work")(lambda: None)
    name = "antigravity.geohash"
    async with running(app):
        workflow = await app.dispatch(ActivitySpec(name=name, queue=f"{app.prefix}.work"))
        with pytest.raises(WorkflowTimeout):
            await workflow.result(0.3)
    import sys

    assert "antigravity" not in sys.modules


async def test_a_message_delivered_too_often_is_set_aside_and_its_workflow_fails(make_app, tmp_path, running):
    """It seems to kill its workers; the step is never begun again."""
    app, gate = make_app(f"sqlite:///{tmp_path / 'paigeant.db'}", max_deliveries=1), Gate()
    app.activity(name="gate")(gate)
    gate.go_on.set()
    workflow = await app.dispatch("gate")
    await _deliver_once_in_vain(app)
    async with running(app):
        with pytest.raises(WorkflowFailed, match="Poisoned: delivered 1 times without an end"):
            await app.workflow(str(workflow)).result(SOON)
        (letter,) = await app.store.dead_letters()
    assert (gate.runs, letter.correlation_id) == (0, str(workflow))


async def _deliver_once_in_vain(app: App) -> None:
    """As a worker does that dies: take the message, and let the lease run out."""
    from sqlalchemy import text

    deliveries = app.transport.consume([f"{app.prefix}.gate"], 1)
    await anext(deliveries)
    database = app.store._database
    with database.writer() as connection, connection.begin():
        connection.execute(text("UPDATE paigeant_holder SET expires_at = 0"))
        connection.execute(text("UPDATE paigeant_message SET owner = 'dead' WHERE owner IS NOT NULL"))
        connection.execute(text("INSERT INTO paigeant_holder (id, expires_at) VALUES ('dead', 0)"))
    await deliveries.aclose()
    await app.close()


# --- observers -------------------------------------------------------------------------------------------------------


async def test_observers_are_told_what_was_recorded(make_app, broker, running):
    """In order, as frozen events, by whoever recorded it."""
    seen: list[Event] = []
    app = make_app(broker, observers=[seen.append])

    @app.activity(retry=RetryPolicy(attempts=2, delay=0))
    async def flaky(ctx: ActivityContext) -> int:
        if ctx.attempt == 1:
            raise ValueError
        return 5

    async with running(app):
        workflow = await app.dispatch(flaky)
        await workflow.result(SOON)

        async def told():
            return seen[-1].type == "workflow_completed"

        await until_async(told)
    assert [event.type for event in seen] == [
        "workflow_dispatched",
        "step_retried",
        "step_completed",
        "workflow_completed",
    ]
    assert {event.correlation_id for event in seen} == {str(workflow)}


async def test_an_observer_that_fails_harms_nothing(make_app, broker, running):
    """Neither the dispatch nor the step, nor the other observers."""
    seen: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError("observer")

    app = make_app(broker, observers=[broken, seen.append])

    @app.activity
    async def work(ctx: ActivityContext) -> str:
        await ctx.heartbeat("half")
        return "done"

    async with running(app):
        assert await (await app.dispatch(work)).result(SOON) == "done"
    assert [event.type for event in seen][:2] == ["workflow_dispatched", "step_progressed"]


# --- steps that were done before -------------------------------------------------------------------------------------


async def test_a_finished_step_that_is_delivered_again_is_not_run_again(make_app, tmp_path, running):
    """Its successor is sent again instead, the same message (G5); with broker and store apart."""
    runs = []
    app = make_app(f"sqlite:///{tmp_path / 'broker.db'}", f"sqlite:///{tmp_path / 'store.db'}")

    @app.activity
    async def first() -> int:
        runs.append("first")
        return 1

    @app.activity
    async def second(n: int) -> int:
        runs.append("second")
        return n + 1

    async with running(app):
        workflow = await app.dispatch(first, second)
        assert await workflow.result(SOON) == 2
        slip = RoutingSlip(
            itinerary=tuple(ActivitySpec(name=one.name, queue=app.queue_of(one)) for one in (first, second))
        )
        again = PaigeantMessage(correlation_id=str(workflow), name="test", routing_slip=slip)
        await app.transport.publish(app.queue_of(first), again)

        async def gone():
            return not await app.transport.depth(app.queue_of(first))

        await until_async(gone)
        assert await (await app.dispatch(second.step(n=5))).result(SOON) == 6
    assert runs == ["first", "second", "second"]

"""The worker: which messages it takes, which ones it gives back, and what it tells observers."""

from __future__ import annotations

import asyncio
import json

import pytest
from helpers import until_async

from paigeant import ActivityContext, App, RetryPolicy, Worker
from paigeant.errors import ConfigurationError, StoreError, TransportError, WorkflowTimeout
from paigeant.events import Event
from paigeant.transport import Outgoing
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec, RoutingSlip

pytestmark = pytest.mark.anyio

SOON = 20


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


async def test_a_step_that_one_worker_does_not_know_is_soon_run_by_another(make_app, tmp_path, running):
    """During a rolling deploy with a shared queue: while such a worker lives, the pauses stay short."""
    broker = f"sqlite:///{tmp_path / 'paigeant.db'}"
    app = make_app(broker)

    @app.activity(queue="shared")
    async def known_to_both() -> None: ...

    @app.activity(queue="shared")
    async def new(n: int) -> int:
        return n

    other = make_app(broker)
    other.__dict__["store"] = app.store
    other.activity(queue="shared")(new.function)
    async with running(app, only=["known_to_both"]), running(other):
        await until_async(lambda: _lives(app, "new"))
        workflows = [await app.dispatch(new.step(n=n)) for n in range(12)]
        assert await asyncio.gather(*(one.result(SOON) for one in workflows)) == [*range(12)]


async def _lives(app: App, activity: str) -> bool:
    return any(activity in one.activities for one in await app.store.workers())


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


async def test_a_worker_that_never_can_connect_says_so_at_the_start(make_app):
    """Rather than waiting for ever, as it does for a server."""
    app = make_app("sqlite:////no/such/folder/x.db")
    app.activity(name="work")(lambda: None)
    with pytest.raises((TransportError, StoreError)):
        await Worker(app).run()


async def test_two_workers_of_one_app_in_a_process(app, running):
    """When one stops, and when somebody closes the App, the other goes on; the last one disconnects."""
    app.activity(name="one")(lambda: 1)
    app.activity(name="two")(lambda: 2)
    assert "dispatcher" not in app.__dict__
    async with running(app, only=["one"]):
        async with running(app, only=["two"]):
            assert await (await app.dispatch("one", "two")).result(SOON) == 2
        await app.close()
        assert await (await app.dispatch("one")).result(SOON) == 1
    assert "dispatcher" not in app.__dict__


async def test_a_worker_leaves_open_what_the_program_had_used_before(app, running):
    """So that a result can be waited for while a worker beside it ends."""
    app.activity(name="work")(lambda: 1)
    workflow = await app.dispatch("work")
    store = app.store
    async with running(app):
        assert await workflow.result(SOON) == 1

    assert app.__dict__["store"] is store
    assert await app.workflow(workflow.correlation_id).status() == "completed"


# --- how it ends -----------------------------------------------------------------------------------------------------


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


async def test_who_waits_for_a_result_is_not_left_deaf_by_a_close(make_app, tmp_path, running):
    """The App connects again: a request that waits knows nothing of the code that closed it."""
    url = f"sqlite:///{tmp_path / 'paigeant.db'}"
    app, other = make_app(url), make_app(url)
    other.activity(name="work")(lambda: 1)
    workflow = await app.dispatch("work")
    waiting = asyncio.create_task(workflow.result(SOON))

    async def is_waiting() -> bool:
        return bool(app.store.access.watch)

    await until_async(is_waiting)
    await app.close()
    async with running(other):
        assert await waiting == 1

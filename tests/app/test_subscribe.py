"""A consumer loop by hand: the guarantees of a worker, whatever the loop does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from helpers import until_async

from paigeant import ActivitySpec, BaseTransport, RetryPolicy, Worker, WorkflowDispatcher
from paigeant.errors import WorkflowFailed
from paigeant.records.workflow import Status

pytestmark = pytest.mark.anyio

SOON = 10


@pytest.fixture(params=["joined", "apart"])
async def dispatcher(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> AsyncIterator[WorkflowDispatcher]:
    monkeypatch.setenv("PAIGEANT_QUEUE_PREFIX", prefix)
    broker = f"sqlite:///{tmp_path / 'broker.db'}"
    store = broker if request.param == "joined" else f"sqlite:///{tmp_path / 'store.db'}"
    monkeypatch.setenv("PAIGEANT_BROKER_URL", broker)
    monkeypatch.setenv("PAIGEANT_STORE_URL", store)
    made = WorkflowDispatcher()
    yield made
    await made.close()


@pytest.fixture
def transport(dispatcher: WorkflowDispatcher) -> BaseTransport:
    return dispatcher.app.transport


async def dispatched(dispatcher: WorkflowDispatcher, *steps: object, **variables: object):
    id_ = await dispatcher.dispatch_workflow([*steps], variables=variables)
    return dispatcher.app.workflow(id_)


async def test_a_loop_runs_the_steps_of_one_activity(dispatcher, transport):
    """As the documents write it: payload, mark_complete, publish; the next step has the output and the payload."""
    workflows = [await dispatched(dispatcher, "check", "after", n=n) for n in range(3)]
    seen = []
    async for message in transport.subscribe("check", burst=True):
        seen.append(message.payload["n"])
        message.payload["checked"] = True
        message.routing_slip.mark_complete("check", message.payload["n"] * 2)
        await transport.publish("workflows", message)

    @dispatcher.app.activity
    def after(number: int, checked: bool) -> list[object]:
        return [number, checked]

    await Worker(dispatcher.app, burst=True).run()
    assert sorted(seen) == [0, 1, 2]
    assert [await workflow.result(SOON) for workflow in workflows] == [[0, True], [2, True], [4, True]]


async def test_a_step_that_fails_is_tried_again_by_its_policy(dispatcher, transport):
    """As if the error were raised; the loop goes on."""
    policy = RetryPolicy(attempts=2, delay=0.01)
    failing = await dispatched(dispatcher, ActivitySpec(name="check", retry=policy))
    attempts = []
    async for message in transport.subscribe("check", burst=True):
        attempts.append(message.attempt)
        message.fail(ValueError("no address"))
    assert attempts == [1, 2]
    with pytest.raises(WorkflowFailed, match="ValueError: no address"):
        await failing.result(SOON)


async def test_a_step_that_nobody_decides_fails(dispatcher, transport):
    """The loop asks for the next message and has said nothing of this one."""
    undecided = await dispatched(dispatcher, "check")
    async for _ in transport.subscribe("check", burst=True):
        pass
    with pytest.raises(WorkflowFailed, match="did not complete its step"):
        await undecided.result(SOON)


@pytest.mark.parametrize("leave", ["break", "raise", "cancel"])
async def test_a_message_that_the_loop_leaves_goes_back(dispatcher, transport, leave):
    """Undecided, it is handed out again, to whichever loop is there."""
    workflow = await dispatched(dispatcher, "check")

    async def leaving() -> None:
        async with aclosing(transport.subscribe("check")) as messages:
            async for _ in messages:
                match leave:
                    case "break":
                        break
                    case "raise":
                        raise OSError("the disk is full")
                    case "cancel":
                        asyncio.current_task().cancel()
                        await asyncio.sleep(SOON)

    task = asyncio.create_task(leaving())
    await asyncio.wait({task}, timeout=SOON)
    assert task.done()
    assert (task.cancelled(), isinstance(None if task.cancelled() else task.exception(), OSError)) == (
        leave == "cancel",
        leave == "raise",
    )
    assert await workflow.status() is Status.RUNNING
    assert await transport.depth(f"{dispatcher.app.prefix}.check") == 1

    async for message in transport.subscribe("check", burst=True):
        message.routing_slip.mark_complete("check", "second")
    assert await workflow.result(SOON) == "second"


async def test_a_message_that_is_decided_is_settled_when_the_loop_ends(dispatcher, transport):
    """Behind a break as well."""
    workflow = await dispatched(dispatcher, "check")
    async with aclosing(transport.subscribe("check")) as messages:
        async for message in messages:
            message.routing_slip.mark_complete("check", "first")
            break
    assert await workflow.result(SOON) == "first"


async def test_what_the_body_does_after_a_cancel_does_not_count(dispatcher, transport):
    """The loop goes on with the next message."""
    dispatcher.app.settings = dispatcher.app.settings.model_copy(update={"cancel_grace": 0.01})
    cancelled = await dispatched(dispatcher, "check")
    outcomes = []
    async with aclosing(transport.subscribe("check")) as messages:
        async for message in messages:
            if message.correlation_id == cancelled.correlation_id:
                await cancelled.cancel()
                other = await dispatched(dispatcher, "check")
            message.routing_slip.mark_complete("check", "done")
            outcomes.append(message.correlation_id)
            if len(outcomes) == 2:
                break
    assert outcomes == [cancelled.correlation_id, other.correlation_id]
    assert await other.result(SOON) == "done"
    assert await cancelled.status() is Status.CANCELLED


async def test_two_loops_share_the_work(dispatcher, transport):
    """Each message is handed to one of them."""
    workflows = [await dispatched(dispatcher, "check", n=n) for n in range(6)]
    seen: list[int] = []

    async def loop() -> None:
        async for message in transport.subscribe("check"):
            seen.append(message.payload["n"])
            message.routing_slip.mark_complete("check")

    loops = [asyncio.create_task(loop()) for _ in range(2)]

    async def are_over() -> bool:
        return all([await one.status() is Status.COMPLETED for one in workflows])

    await until_async(are_over)
    for one in loops:
        one.cancel()
    await asyncio.wait(loops, timeout=SOON)
    assert sorted(seen) == list(range(6))

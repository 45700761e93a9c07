"""Cancelling, pausing and resuming running workflows; with broker and store in one and apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from helpers import until_async
from signing import signer

from paigeant import ActivityContext, App, RetryPolicy, Workflow, await_signal, scatter, sleep
from paigeant.errors import StoreRequired, WorkflowCancelled, WorkflowError, WorkflowFailed, WorkflowNotFound
from paigeant.events import Cancellation
from paigeant.records.workflow import STEERING_TAKES, Status

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["joined", "apart"])
def app(
    request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> App:
    monkeypatch.setenv("PAIGEANT_CANCEL_GRACE", "0.2")
    store = f"sqlite:///{tmp_path / 'store.db'}"
    return make_app(store if request.param == "joined" else f"sqlite:///{tmp_path / 'broker.db'}", store)


@pytest.fixture
def did() -> list[Any]:
    """What the steps did."""
    return []


@pytest.fixture
def note(app: App, did: list[Any]) -> None:
    """An activity ``note`` that can be taken back."""

    @app.activity
    def note(word: str = "a") -> str:
        did.append(word)
        return word

    @note.compensate
    def unnote(output: str) -> None:
        did.append(f"-{output}")


def reached(did: list[Any], what: Any) -> Any:
    async def is_there() -> bool:
        return what in did

    return until_async(is_there)


async def statuses(workflow: Workflow) -> list[str]:
    return [step.status for step in (await workflow.record()).steps]


async def parked(workflow: Workflow) -> None:
    async def waits() -> bool:
        return "parked" in await statuses(workflow)

    await until_async(waits)


# --- cancelling ------------------------------------------------------------------------------------------------------


async def test_a_workflow_that_waits_is_cancelled_at_once(app, running, note, did):
    """Nothing waits in it any more, and nothing is taken back."""
    async with running(app):
        workflow = await app.dispatch("note", await_signal("go"), "note")
        await parked(workflow)
        await workflow.cancel(reason="changed my mind", by="ada")
        with pytest.raises(WorkflowCancelled, match=rf"(?m)was cancelled by {signer('ada')}: changed my mind$"):
            await workflow.result(20)
        with pytest.raises(WorkflowError, match="is cancelled: none of its steps waits"):
            await workflow.signal("go")
        record = await workflow.record()
        assert (record.status, record.cancellation.by, record.cancellation.compensate) == (
            Status.CANCELLED,
            signer("ada"),
            False,
        )
        assert await app.store.held(workflow.correlation_id) == []
        assert did == ["a"]
        await app.cancel(workflow.correlation_id)


async def test_cancelling_can_take_back_what_was_done(app, running, note, did):
    """What waits comes back and is turned."""
    async with running(app):
        workflow = await app.dispatch("note", "note", sleep(3600), "note")
        await parked(workflow)
        await workflow.cancel(compensate=True, reason="too late")
        with pytest.raises(WorkflowCancelled, match=r"(?m)was cancelled( by everybody)?: too late; compensated$"):
            await workflow.result(20)
        assert did == ["a", "a", "-a", "-a"]
        assert await workflow.status() is Status.COMPENSATED
        with pytest.raises(WorkflowError, match="is compensated: it cannot be cancelled"):
            await workflow.cancel()


async def test_with_nothing_to_take_back_it_is_cancelled(app, running, note):
    """As without compensating."""
    async with running(app):
        workflow = await app.dispatch(sleep(3600))
        await parked(workflow)
        await workflow.cancel(compensate=True)
        with pytest.raises(WorkflowCancelled, match=r"(?m)was cancelled( by everybody)?$"):
            await workflow.result(20)
        assert await workflow.status() is Status.CANCELLED


async def test_a_step_is_told_and_its_word_counts(app, running, note, did):
    """What it gives within the grace is its output; the step after it does not start."""

    @app.activity
    async def long(ctx: ActivityContext) -> str:
        did.append("begun")
        while not ctx.cancelled:  # noqa: ASYNC110 - as activities do
            await asyncio.sleep(0.01)
        return "tidy"

    async with running(app):
        workflow = await app.dispatch("note", long, "note")
        await reached(did, "begun")
        await workflow.cancel(compensate=True)
        with pytest.raises(WorkflowCancelled, match="compensated"):
            await workflow.result(20)
        assert did == ["a", "begun", "-a"]
        assert [step.output for step in (await workflow.record()).steps if step.activity == "long"] == ["tidy"]


@pytest.mark.parametrize("compensate", [False, True])
async def test_a_step_that_does_not_listen_is_interrupted(app, running, note, did, compensate):
    """After the grace; its error, whatever it is, is no failure and no reason to try again."""

    @app.activity(retry=RetryPolicy(attempts=5, delay=0.01))
    async def deaf() -> None:
        did.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            did.append("interrupted")

    async with running(app):
        workflow = await app.dispatch("note", deaf, "note")
        await reached(did, "begun")
        await workflow.cancel(compensate=compensate)
        with pytest.raises(WorkflowCancelled):
            await workflow.result(20)

        async def stopped() -> bool:
            return "cancelled" in await statuses(workflow)

        await until_async(stopped)
        assert did == ["a", "begun", "interrupted", *(["-a"] if compensate else [])]
        assert await workflow.status() is (Status.COMPENSATED if compensate else Status.CANCELLED)


async def test_a_cancel_goes_down_to_the_children(app, running, note, did):
    """And a parent that is not cancelled hears of it."""

    @app.activity
    def parent(ctx: ActivityContext) -> None:
        did.append(ctx.dispatch("note", await_signal("never")))
        ctx.wait_for(did[0])

    async with running(app):
        workflow = await app.dispatch(parent)
        await parked(workflow)
        child = app.workflow(did[0])
        await parked(child)
        await workflow.cancel(reason="enough")
        assert await child.status() is Status.CANCELLED

        did.clear()
        other = await app.dispatch(parent)
        await parked(other)
        await parked(app.workflow(did[0]))
        await app.cancel(did[0])
        with pytest.raises(WorkflowFailed, match=r"ChildFailed: .* cancelled"):
            await other.result(20)


async def test_a_child_of_a_cancelled_workflow_does_not_start(app, running, note, did):
    """Also one that its parent dispatched after that."""

    @app.activity
    async def parent(ctx: ActivityContext) -> None:
        did.append(ctx.dispatch("note"))
        while not ctx.cancelled:  # noqa: ASYNC110 - as activities do
            await asyncio.sleep(0.01)

    async with running(app):
        workflow = await app.dispatch(parent)
        await until_async(lambda: asyncio.sleep(0, bool(did)))
        await workflow.cancel()
        with pytest.raises(WorkflowCancelled):
            await workflow.result(20)

        async def cancelled() -> bool:
            found = await app.store.workflow(did[0])
            return found is not None and found.status is Status.CANCELLED

        await until_async(cancelled)
        assert len(did) == 1


# --- pausing ---------------------------------------------------------------------------------------------------------


async def test_a_paused_workflow_goes_on_where_it_was(app, running, note, did):
    """What runs ends, nothing starts, and nothing of it is on the broker."""
    go = asyncio.Event()

    @app.activity
    async def long() -> None:
        did.append("begun")
        await go.wait()

    async with running(app):
        workflow = await app.dispatch(long, "note")
        await reached(did, "begun")
        await workflow.pause(by="ada")
        await workflow.pause()
        go.set()
        await parked(workflow)
        assert await workflow.status() is Status.PAUSED
        assert did == ["begun"]
        await workflow.resume(by="ada")
        assert await workflow.result(20) == "a"
        types = [event.type async for event in workflow.events()]
        assert (types.count("workflow_paused"), types.count("workflow_resumed")) == (1, 1)


async def test_what_it_dispatched_is_paused_with_it(app, running, note, did):
    """Branches and other workflows, and what its running step dispatches after that."""
    go = asyncio.Event()

    @app.activity
    async def long(ctx: ActivityContext) -> Any:
        if not go.is_set():
            did.append("begun")
            await go.wait()
        return ctx.wait_for(ctx.dispatch("note"))

    async with running(app):
        workflow = await app.dispatch(scatter([sleep(0.1), "note"], long))
        await reached(did, "begun")
        await workflow.pause()
        go.set()

        async def all_wait() -> bool:
            return len(await app.store.held(key="pause")) == 2

        await until_async(all_wait)
        family = await app.store.workflows()
        assert [(len(family), one.status) for one in family] == [(4, Status.PAUSED)] * 4
        assert did == ["begun"]
        await workflow.resume()
        assert [one.output for one in await workflow.result(20)] == ["a", "a"]


async def test_a_pause_that_is_over_holds_nothing_back(app, running, note, did):
    """Also a step that was told to wait just before."""
    async with running(app):
        workflow = await app.dispatch(sleep(0.1), "note")
        with suppress(WorkflowError):  # it may end between the two
            for _ in range(3):
                await workflow.pause()
                await workflow.resume()
        assert await workflow.result(20) == "a"


async def test_a_paused_workflow_can_be_cancelled(app, running, note, did):
    """What it did is taken back."""
    async with running(app):
        workflow = await app.dispatch("note", await_signal("go"), "note")
        await parked(workflow)
        await workflow.pause()
        await workflow.cancel(compensate=True)
        with pytest.raises(WorkflowCancelled, match="compensated"):
            await workflow.result(20)
        assert did == ["a", "-a"]


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", ["cancel", "pause", "resume"])
async def test_what_cannot_be_steered_says_why(app, running, note, wish):
    """No such workflow, and one that has ended."""
    async with running(app):
        done = await app.dispatch("note")
        await done.result(20)
        with pytest.raises(WorkflowNotFound, match="no workflow 'nobody'"):
            await getattr(app.workflow("nobody"), wish)()
        with pytest.raises(WorkflowError, match="is completed: it cannot be") as caught:
            await getattr(done, wish)()
        assert caught.value.hint == f"see: paigeant workflow {done.correlation_id}"


@pytest.mark.parametrize("wish", ["cancel", "pause", "resume"])
async def test_without_a_store_nothing_can_be_steered(make_app, wish):
    """There is nobody to tell."""
    with pytest.raises(StoreRequired, match="steered through a store, and this App has none"):
        await getattr(make_app("memory://", "none").workflow("x"), wish)()


async def test_a_slow_answer_is_asked_for_again(app, running, note, did, monkeypatch):
    """Somebody may have cancelled in the meantime."""
    standing, asked = app.store.standing, []

    async def slowly(message_id: str, correlation_id: str, late_after: float) -> Any:
        answer = await standing(message_id, correlation_id, late_after)
        asked.append(correlation_id)
        if len(asked) == 1:
            order = app.notary.order(correlation_id, "cancel", 0.0) if app.notary is not None else None
            await app.store.cancel(correlation_id, cancellation, order)
            begun = time.monotonic()
            await until_async(lambda: asyncio.sleep(0, time.monotonic() - begun > STEERING_TAKES))
        return answer

    cancellation = Cancellation(at=0.0)
    monkeypatch.setattr(app.store, "standing", slowly)
    async with running(app):
        workflow = await app.dispatch("note")
        with pytest.raises(WorkflowCancelled):
            await workflow.result(20)
        await until_async(lambda: asyncio.sleep(0, len(asked) > 1))
    assert did == []


async def test_what_is_cancelled_while_it_waits_for_its_slot_never_starts(app, running, note, did, monkeypatch):
    """While a step runs it is asked already how the next one's workflow stands; after a long wait it is asked again."""
    standing, asked, go_on = app.store.standing, set(), asyncio.Event()

    async def spied(message_id: str, correlation_id: str, late_after: float) -> Any:
        answer = await standing(message_id, correlation_id, late_after)
        asked.add(correlation_id)
        return answer

    @app.activity
    async def hold() -> None:
        await go_on.wait()

    monkeypatch.setattr(app.store, "standing", spied)
    async with running(app, concurrency=1, prefetch=2):
        first, second = await app.dispatch("hold"), await app.dispatch("note")
        await until_async(lambda: asyncio.sleep(0, {first.correlation_id, second.correlation_id} <= asked))
        await second.cancel()
        go_on.set()
        await first.result(20)
        with pytest.raises(WorkflowCancelled):
            await second.result(20)
    assert did == []


async def test_a_cancel_meets_the_last_step(app, running):
    """It completes all the same, and is compensated: the workflow does not end as completed."""
    log, begun, may_end = [], asyncio.Event(), asyncio.Event()

    @app.activity
    async def charge() -> int:
        log.append("charge")
        begun.set()
        await may_end.wait()
        return 5

    @charge.compensate
    async def refund(amount: int) -> None:
        log.append(f"refund {amount}")

    async with running(app):
        workflow = await app.dispatch(charge)
        await begun.wait()
        await workflow.cancel(compensate=True, reason="too late")
        may_end.set()
        with pytest.raises(WorkflowCancelled, match=r"was cancelled( by everybody)?: too late; compensated"):
            await workflow.result(20)
    assert log == ["charge", "refund 5"]

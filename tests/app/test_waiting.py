"""Steps that wait: for time, for signals, for workflows they dispatched; with broker and store in one and apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from helpers import until_async
from pydantic import BaseModel
from signing import signer

from paigeant import ActivityContext, App, RetryPolicy, Terminate, Workflow, await_approval, await_signal, sleep
from paigeant.errors import InvalidArguments, StoreRequired, WorkflowError, WorkflowFailed
from paigeant.wire.json_schema import described, misfit

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["joined", "apart"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Path) -> App:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    return make_app(store if request.param == "joined" else f"sqlite:///{tmp_path / 'broker.db'}", store)


class Decision(BaseModel):
    approved: bool


async def parked(workflow: Workflow) -> None:
    """Wait until a step of the workflow waits."""

    async def waits() -> bool:
        return any(step.status == "parked" for step in (await workflow.record()).steps)

    await until_async(waits)


async def test_a_signal_that_does_not_fit_is_refused_where_it_is_sent(app, running):
    """While the step waits, which goes on waiting; one that came before fails it."""

    @app.activity
    def decide(ctx: ActivityContext) -> int:
        return int(ctx.await_signal("decision", schema=Literal[1, 2]))

    expected = {"type": "object", "required": ["word"]}
    steps = [decide, await_signal("any"), await_signal("other", schema=expected)]
    async with running(app):
        workflow = await app.dispatch(*steps, variables={"schema": {"type": "string"}})
        await workflow.signal("any", {"word": 5})
        await until_async(lambda: app.store.held(key="signal:decision"))
        with pytest.raises(InvalidArguments, match=r"'decision' is not what step 'decide' waits for: \$: 3 is not"):
            await workflow.signal("decision", 3)
        await workflow.signal("decision", 2)
        await until_async(lambda: app.store.held(key="signal:other"))
        with pytest.raises(InvalidArguments, match="'word' is a required property"):
            await workflow.signal("other", {})
        await workflow.signal("other", {"word": "yes"})
        assert await workflow.result(20) == {"word": "yes"}
        early = await app.dispatch(sleep(0.2), await_signal("other", schema=expected))
        await early.signal("other", [])
        with pytest.raises(WorkflowFailed, match=r"InvalidInput: signal 'other' .*: \$: \[\] is not of type 'object'"):
            await early.result(20)


def test_a_schema_is_a_type_or_a_json_schema():
    """What nobody can describe may be anything; nothing is fetched because a schema says so."""
    assert described(Any) is described(None) is described(object()) is None
    elsewhere = "http://127.0.0.1:1/x"
    assert misfit("a", {"$ref": elsewhere}) == f"its schema refers to what is not in it: {elsewhere}"
    with pytest.raises(InvalidArguments, match="no JSON Schema"):
        await_signal("a", schema={"type": "nothing"})


async def test_a_sleep_hands_on_what_came_before_and_is_never_early(app, running):
    """And nothing of it is on the broker meanwhile (G6)."""

    @app.activity
    def first() -> int:
        return 7

    @app.activity
    def second(value: int) -> tuple[int, float]:
        return value, time.time()

    async with running(app):
        begun = time.time()
        workflow = await app.dispatch(first, sleep(0.4), second)
        await parked(workflow)
        assert set((await app.transport.queues()).values()) <= {0}
        value, at = await workflow.result(20)
        assert value == 7
        assert at >= begun + 0.4


async def test_a_signal_is_the_output_of_the_step_that_waits_for_it(app, running):
    """Whether it comes before or after."""

    @app.activity
    def after(value: str) -> str:
        return value.upper()

    async with running(app):
        early = await app.dispatch(sleep(0.2), await_signal("word"), after)
        await early.signal("word", "early", by="ada")
        late = await app.dispatch(await_signal("word"), after)
        await parked(late)
        await late.signal("word", "late")
        assert (await early.result(20), await late.result(20)) == ("EARLY", "LATE")


async def test_an_activity_waits_for_signals_of_a_type(app, running):
    """It runs from its beginning each time; what came before is there."""
    runs = []

    @app.activity
    def ask(ctx: ActivityContext) -> list[bool]:
        runs.append(ctx.attempt)
        first = ctx.await_signal("decision", schema=Decision)
        second = ctx.await_signal("decision", schema=Decision)
        return [first.approved, second.approved]

    async with running(app):
        workflow = await app.dispatch(ask)
        await workflow.signal("decision", Decision(approved=True))
        await workflow.signal("decision", Decision(approved=False))
        assert await workflow.result(20) == [True, False]
        assert set(runs) == {1}


async def test_a_signal_that_does_not_come_fails_the_step(app, running):
    """With an error that names it."""

    @app.activity
    def after() -> None:
        raise AssertionError

    async with running(app):
        workflow = await app.dispatch(await_signal("never", timeout=0.05), after)
        with pytest.raises(WorkflowFailed, match="SignalTimeout: 'signal:never' did not come in time"):
            await workflow.result(20)
        with pytest.raises(WorkflowError, match="is failed: none of its steps waits"):
            await workflow.signal("never", 1)


async def test_the_itinerary_changes_at_run_time(app, running):
    """Steps are inserted in order right after this one, others left out, and the end can come early."""
    ran = []

    @app.activity
    def note(word: str) -> str:
        ran.append(word)
        return word

    @app.activity
    def edit(ctx: ActivityContext) -> None:
        ctx.insert(note.step(word="a"), note.step(word="b"))
        ctx.insert(note.step(word="c"))
        ctx.skip("left_out")
        with pytest.raises(KeyError, match="no step 'unheard_of' ahead"):
            ctx.skip("unheard_of")

    @app.activity
    def left_out() -> None:
        raise AssertionError

    @app.activity
    def end() -> None:
        raise Terminate({"done": True})

    async with running(app):
        workflow = await app.dispatch(edit, left_out, note.step(word="d"), end, left_out)
        assert await workflow.result(20) == {"done": True}
        assert ran == ["a", "b", "c", "d"]


async def test_without_a_store_a_step_cannot_wait(make_app, running, tmp_path):
    """It fails rather than wait for ever; there is nobody who could tell."""
    told: list[Any] = []
    app = make_app(f"sqlite:///{tmp_path / 'broker.db'}", "none", observers=[told.append])

    @app.activity
    def wait(ctx: ActivityContext) -> None:
        ctx.sleep(60)

    async with running(app):
        await app.dispatch(wait)

        async def failed() -> bool:
            return any(event.type == "workflow_failed" for event in told)

        await until_async(failed)
    assert "StoreRequired" in str(told)


@pytest.mark.parametrize("given", [{}, {"seconds": 1, "until": datetime(2030, 1, 1, tzinfo=UTC)}])
def test_a_sleep_needs_one_time(given):
    """Either for how long or until when."""
    with pytest.raises(InvalidArguments, match="either seconds or until"):
        sleep(**given)


def test_a_time_to_sleep_until_has_a_zone():
    """Workers may be in others."""
    with pytest.raises(InvalidArguments, match="until has no time zone"):
        sleep(until=datetime(2030, 1, 1))  # noqa: DTZ001 - the mistake


def test_without_a_store_a_waiting_step_is_refused_at_dispatch(make_app):
    """Nobody could ever send it on."""
    with pytest.raises(StoreRequired, match=r"'paigeant.sleep' waits in a store"):
        make_app("memory://", "none").dispatch(sleep(1))


async def test_a_delayed_retry_is_no_sleep(app, running, monkeypatch):
    """What brought the message back is not what the step waits for."""
    monkeypatch.setattr("paigeant.dispatch.packing._LONGEST_DELAY", 0.0)
    object.__setattr__(app.transport, "features", replace(app.transport.features, delay=False))
    slept = []

    @app.activity(retry=RetryPolicy(attempts=2, delay=0.1, jitter=False))
    def late(ctx: ActivityContext) -> float:
        if ctx.attempt == 1:
            raise ValueError("not yet")
        slept.append(time.time())
        ctx.sleep(0.3)
        return time.time() - slept[0]

    async with running(app):
        workflow = await app.dispatch(late)
        assert await workflow.result(20) >= 0.3


async def test_a_signal_too_large_to_be_kept_fails_the_step(app, make_app, running):
    """One that was sent with a larger limit than the worker's. It holds up nobody else."""
    sender = make_app(app.settings.broker_url, app.settings.store_url)
    app.settings = app.settings.model_copy(update={"value_limit": app.settings.message_limit})

    @app.activity
    def unused() -> None: ...

    async with running(app):
        workflow, other = await app.dispatch(await_signal("word")), await app.dispatch(await_signal("word"))
        await sender.workflow(workflow.correlation_id).signal("word", "x" * app.settings.message_limit)
        await other.signal("word", "small")
        assert await other.result(20) == "small"
        with pytest.raises(WorkflowFailed, match=r"MessageTooLarge: the (value for 'signal:word'|output of )"):
            await workflow.result(20)


async def test_a_step_waits_for_an_approval(app, running):
    """And hands on what came before, or fails as it was denied."""

    @app.activity
    def refund() -> int:
        return 100

    @app.activity
    def pay(amount: int) -> str:
        return f"{amount} paid"

    async with running(app):
        workflow = await app.dispatch(refund, await_approval("Refund this?"), pay)
        await parked(workflow)
        [waiting] = await app.store.held(key="approval:")
        assert waiting.detail == {"asks": "Refund this?", "details": 100, "question": waiting.question}
        await workflow.decide(True, by="ada")
        assert await workflow.result(20) == "100 paid"
        denied = await app.dispatch(refund, await_approval("Refund this?"), pay)
        await parked(denied)
        await denied.decide(False, by="ada", reason="too much")
        with pytest.raises(WorkflowFailed, match=f"ApprovalDenied: denied by {signer('ada')}: too much"):
            await denied.result(20)
        with pytest.raises(WorkflowError, match="no step of it waits for an approval"):
            await denied.decide(True)


async def test_an_activity_asks_twice(app, running):
    """What was said first is not taken for the second, even if two said something."""

    @app.activity
    def ask(ctx: ActivityContext) -> list[Any]:
        first = ctx.await_approval("First?", details={"amount": 5})
        second = ctx.await_approval("Second?")
        return [first.approved, first.arguments, second.approved]

    async def asks(question: str) -> bool:
        return [one.detail["asks"] for one in await app.store.held(key="approval:")] == [question]

    async with running(app):
        workflow = await app.dispatch(ask)
        await until_async(lambda: asks("First?"))
        [waiting] = await app.store.held(key="approval:")
        await workflow.decide(True, arguments={"amount": 3})
        await workflow._deliver(waiting.key, {"approved": True}, None)
        await until_async(lambda: asks("Second?"))
        await workflow.decide(False)
        assert await workflow.result(20) == [True, {"amount": 3}, False]


async def test_an_answer_counts_for_the_question_that_was_seen(app, running):
    """However equal the next one is: whoever answers the first one too late is told what is asked now."""

    @app.activity
    def ask(ctx: ActivityContext) -> list[bool]:
        return [ctx.await_approval("Pay?", details={"amount": 5}).approved for _ in range(2)]

    async def question() -> str:
        waiting = await app.store.held(key="approval:")
        return waiting[0].question if waiting else ""

    async with running(app):
        workflow = await app.dispatch(ask)
        await until_async(question)
        first = await question()
        await workflow.decide(True, question=first, by="ada")

        async def is_another() -> bool:
            return await question() not in ("", first)

        await until_async(is_another)
        with pytest.raises(WorkflowError, match=r"is answered, or was never asked; asked now: .* 'Pay\?'"):
            await workflow.decide(True, question=first, by="bob")
        await workflow.decide(False, question=(await question())[:8])
        assert await workflow.result(20) == [True, False]


async def test_of_two_who_decide_one_is_told_that_it_is_too_late(app, running):
    """What counts is what the first one said."""
    app.activity(name="served")(lambda: None)
    async with running(app):
        workflow = await app.dispatch(await_approval("pay?"))
        await until_async(lambda: app.store.held(key="approval:"))
        tries = [app.workflow(str(workflow)).decide(True, by=who) for who in ("ada", "bob", "eve")]
        said = await asyncio.gather(*tries, return_exceptions=True)
        late = [one for one in said if one is not None]
        assert len(late) == 2
        for one in late:
            assert isinstance(one, WorkflowError)
        await workflow.result(20)
        answers = [event async for event in workflow.events() if event.type == "signal_received"]
    assert len(answers) == 1


async def test_a_handle_by_id_gives_the_type_of_the_last_activity(app, running):
    """As the handle of dispatch does; where the workflow ended sooner, the output is as it is."""

    @app.activity
    def decide(ends: bool) -> Decision:
        if ends:
            raise Terminate({"approved": False})
        return Decision(approved=True)

    @app.activity
    def last() -> Decision:
        return Decision(approved=True)

    async with running(app):
        for steps, expected in (
            ([decide.step(ends=False)], Decision(approved=True)),
            ([decide.step(ends=True), last], {"approved": False}),
        ):
            workflow = await app.dispatch(*steps)
            assert await workflow.result(20) == expected
            assert await app.workflow(workflow.correlation_id).result(20) == expected

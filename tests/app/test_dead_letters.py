"""What is set aside: looked at, sent again, changed, thrown away; with a store and without one, on every broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from helpers import until_async

from paigeant import ActivityContext, App, RetryPolicy, await_signal
from paigeant.errors import (
    DeadLetterError,
    DeadLetterNotFound,
    InvalidArguments,
    MessageTooLarge,
    StoreRequired,
    WorkflowError,
    WorkflowFailed,
)
from paigeant.records.workflow import Status
from paigeant.transport import Outgoing
from paigeant.wire.message import PaigeantMessage

pytestmark = pytest.mark.anyio

SOON = 20

SOFA = "sofa" * 30_000
"""So large that it does not travel, where there is a store."""


def pay_fails(message: str = "bank is down") -> Any:
    return pytest.raises(WorkflowFailed, match=message)


class Shop:
    """Three steps, of which the second fails as long as it is told to."""

    def __init__(self, app: App) -> None:
        self.app, self.is_down, self.ran = app, True, list[tuple[str, int, int]]()

        @app.activity
        def order(item: str) -> str:
            self.ran.append(("order", 0, 0))
            return item

        @app.activity(retry=RetryPolicy(attempts=2, delay=0))
        def pay(item: str, price: int, ctx: ActivityContext) -> str:
            self.ran.append(("pay", ctx.message.epoch, ctx.attempt))
            if self.is_down:
                raise ConnectionError("bank is down")
            return f"{item} for {price}"

        @app.activity
        def ship(paid: str) -> str:
            return f"shipped {paid}"

    @property
    def letters(self) -> Any:
        return self.app.dead_letters

    async def fail(self, item: str = "lamp") -> Any:
        """A workflow whose payment has failed for good."""
        workflow = await self.app.dispatch("order", "pay", "ship", variables={"item": item, "price": 5})
        with pay_fails():
            await workflow.result(SOON)
        return workflow


@pytest.fixture
def shop(app: App) -> Shop:
    return Shop(app)


async def test_a_step_that_failed_for_good_is_kept_and_goes_on_when_it_is_redriven(shop, running):
    """From its first attempt, under a new epoch; what was done before it is not done again."""
    async with running(shop.app):
        workflow = await shop.fail()
        (letter,) = await shop.letters.list()
        assert (letter.kind, letter.activity, letter.error.type, letter.correlation_id, letter.heading) == (
            "exhausted",
            "pay",
            "ConnectionError",
            str(workflow),
            "forward",
        )
        assert shop.letters.message(letter).routing_slip.log[0].output == "lamp"
        shop.is_down = False
        message = await shop.letters.redrive(letter.id, by="ada")
        assert (message.epoch, message.attempt, message.correlation_id) == (1, 1, str(workflow))
        assert await workflow.result(SOON) == "shipped lamp for 5"
        assert await shop.letters.list() == []
        with pytest.raises(DeadLetterNotFound, match="no dead letter"):
            await shop.letters.redrive(letter.id)
        record = await workflow.record()
        events = [event async for event in workflow.events()]
    assert shop.ran == [("order", 0, 0), ("pay", 0, 1), ("pay", 0, 2), ("pay", 1, 1)]
    assert (record.status, record.error) == (Status.COMPLETED, None)
    assert [(step.activity, step.status) for step in record.steps] == [
        ("order", "completed"),
        ("pay", "retried"),
        ("pay", "failed"),
        ("pay", "completed"),
        ("ship", "completed"),
    ]
    told = [event.type for event in events]
    assert told.count("workflow_failed") == 1
    assert told[-1] == "workflow_completed"
    (redriven,) = [event.data for event in events if event.type == "dead_letter_redriven"]
    assert (redriven["by"], redriven["epoch"], redriven["activity"]) == ("ada", 1, "pay")


async def test_redriven_by_many_at_once_it_runs_once(shop, running):
    """One takes it; the others are told that it is gone."""
    async with running(shop.app):
        workflow = await shop.fail()
        (letter,) = await shop.letters.list()
        shop.is_down = False
        tries = await asyncio.gather(*(shop.letters.redrive(letter.id) for _ in range(8)), return_exceptions=True)
        assert await workflow.result(SOON) == "shipped lamp for 5"
    assert [type(one) for one in tries if isinstance(one, Exception)] == [DeadLetterNotFound] * 7
    assert shop.ran.count(("pay", 1, 1)) == 1


async def test_a_letter_is_edited_before_it_goes_on(shop, running):
    """Its step's arguments and the workflow's variables; what does not fit is refused and changes nothing."""
    async with running(shop.app):
        workflow = await shop.fail()
        (letter,) = await shop.letters.list()
        with pytest.raises(InvalidArguments, match="takes no argument 'prise'") as wrong:
            await shop.letters.edit(letter.id, arguments={"prise": 3})
        assert wrong.value.hint == "did you mean 'price'?"
        with pytest.raises(InvalidArguments, match="argument 'price': Input should be a valid integer"):
            await shop.letters.edit(letter.id, arguments={"price": "much"})
        with pytest.raises(InvalidArguments, match="nothing to change"):
            await shop.letters.edit(letter.id)
        with pytest.raises(InvalidArguments, match="has no argument 'item'"):
            await shop.letters.edit(letter.id, without=["item"])
        assert (await shop.letters.get(letter.id)).body == letter.body
        await shop.letters.edit(letter.id, arguments={"price": 1}, by="ada")
        await shop.letters.edit(letter.id, arguments={"price": 2}, variables={"item": SOFA}, by="ada")
        shop.is_down = False
        await shop.letters.redrive(letter.id)
        assert await workflow.result(SOON) == f"shipped {SOFA} for 2"
        changed = [event.data["changed"] async for event in workflow.events() if event.type == "dead_letter_edited"]
    assert changed == [["arguments['price']"], ["arguments['price']", "variables['item']"]]


async def test_a_letter_that_fails_again_is_another_one(shop, running):
    """And its message is of the epoch after that."""
    async with running(shop.app):
        workflow = await shop.fail()
        (first,) = await shop.letters.list()
        await shop.letters.redrive(first.id)

        async def again():
            return [one for one in await shop.letters.list() if one.id != first.id]

        (second,) = await until_async(again)
        shop.is_down = False
        assert (await shop.letters.redrive(second.id)).epoch == 2
        assert await workflow.result(SOON) == "shipped lamp for 5"
    assert shop.ran.count(("pay", 1, 2)) == shop.ran.count(("pay", 2, 1)) == 1


async def test_letters_are_found_by_what_they_are(shop, running):
    """Every filter alone, and some of them together."""
    app = shop.app
    async with running(app):
        workflow = await shop.fail()
        await app.transport.send([Outgoing(queue=f"{app.prefix}.ship", body=b"\x1b[2Jgarbage")])
        too_new = PaigeantMessage(spec_version="9.0", routing_slip={"itinerary": [{"name": "ship"}]})
        await app.transport.send([Outgoing(queue=f"{app.prefix}.ship", body=too_new.to_json())])

        async def all_of_them():
            return await shop.letters.count() == 3

        await until_async(all_of_them)
        for filters, kinds in {
            (("kind", "unreadable"),): ["unreadable"],
            (("kind", "refused"),): ["refused"],
            (("queue", f"{app.prefix}.pay"),): ["exhausted"],
            (("activity", "pay"),): ["exhausted"],
            (("activity", "ship"),): [],
            (("reason", "bank"),): ["exhausted"],
            (("reason", "9.0"),): ["refused"],
            (("error", "ConnectionError"),): ["exhausted"],
            (("workflow", str(workflow)),): ["exhausted"],
            (("older_than", 60),): [],
            (("newer_than", 60), ("queue", f"{app.prefix}.ship")): ["refused", "unreadable"],
            (("kind", "poison"),): [],
        }.items():
            found = await shop.letters.list(**dict(filters))
            assert sorted(one.kind for one in found) == kinds, filters
            assert await shop.letters.count(**dict(filters)) == len(kinds)
        assert len(await shop.letters.list(limit=2)) == 2
        with pytest.raises(InvalidArguments, match="no kind 'poisoned'"):
            await shop.letters.list(kind="poisoned")


async def test_many_are_sent_again_by_filter_and_those_that_cannot_be_stay(shop, running):
    """What cannot be read is never sent again."""
    app = shop.app
    async with running(app):
        workflows = [await shop.fail(f"lamp {n}") for n in range(3)]
        await app.transport.send([Outgoing(queue=f"{app.prefix}.pay", body=b"garbage")])

        async def set_aside():
            return await shop.letters.list(kind="unreadable")

        (garbage,) = await until_async(set_aside)
        shop.is_down = False
        handled = await shop.letters.redrive_all(by="ada", queue=f"{app.prefix}.pay")
        assert len(handled.done) == 3
        assert list(handled.refused) == [garbage.id]
        assert "cannot be read" in handled.refused[garbage.id]
        for n, workflow in enumerate(workflows):
            assert await workflow.result(SOON) == f"shipped lamp {n} for 5"
        assert (await shop.letters.discard_all(kind="unreadable")).done == [garbage.id]
        assert await shop.letters.count() == 0


@pytest.fixture
def booking(make_app: Callable[..., App], tmp_path: Any) -> Any:
    """A workflow whose second message is larger than its worker accepts; its letter, and what was taken back."""
    urls = f"sqlite:///{tmp_path / 'broker.db'}", f"sqlite:///{tmp_path / 'store.db'}"
    app, small, taken_back = make_app(*urls), make_app(*urls, message_limit=1024), []

    @app.activity
    def reserve(notes: str) -> str:
        return "a seat"

    @reserve.compensate
    def release(seat: str) -> None:
        taken_back.append(seat)

    for one in (app, small):
        one.activity(name="pay")(lambda seat: f"paid {seat}")
    return app, small, taken_back


async def refused(booking: Any, running: Any) -> Any:
    app, small, _ = booking
    workflow = await app.dispatch("reserve", "pay", variables={"notes": "x" * 2000})
    async with running(app, only=["reserve"]), running(small):

        async def set_aside():
            return await app.dead_letters.list(kind="refused")

        (letter,) = await until_async(set_aside)
    assert "MessageTooLarge" in letter.reason
    assert await workflow.status() is Status.RUNNING
    return workflow, letter


async def test_a_letter_that_no_worker_accepted_goes_on_where_one_does(booking, running):
    """Its workflow has not ended meanwhile."""
    app, small, _ = booking
    workflow, letter = await refused(booking, running)
    with pytest.raises(DeadLetterError, match="cannot be read: the message is") as wrong:
        await small.dead_letters.redrive(letter.id)
    assert f"paigeant dlq discard {letter.id}" in wrong.value.hint
    async with running(app):
        await app.dead_letters.redrive(letter.id)
        assert await workflow.result(SOON) == "paid a seat"


async def test_when_it_is_discarded_its_workflow_fails_and_takes_back_what_it_did(booking, running):
    """If somebody vouches for it: a worker refused the message, so it may be a stranger's."""
    app, _, taken_back = booking
    workflow, letter = await refused(booking, running)
    async with running(app):
        await app.dead_letters.discard(letter.id, by="ada", note="too long", vouch=True)
        with pytest.raises(WorkflowFailed, match="set aside and discarded by ada: too long; compensated"):
            await workflow.result(SOON)
        with pytest.raises(DeadLetterNotFound):
            await app.dead_letters.discard(letter.id)
    assert taken_back == ["a seat"]


async def test_discarding_what_failed_leaves_its_workflow_failed(shop, running):
    """And it cannot be retried any more."""
    async with running(shop.app):
        workflow = await shop.fail()
        await shop.letters.discard((await shop.letters.list())[0].id)
        assert await workflow.status() is Status.FAILED
        with pytest.raises(WorkflowError, match="the message of its failed step was discarded") as wrong:
            await workflow.retry()
    assert "paigeant fork" in wrong.value.hint


# --- on other brokers ------------------------------------------------------------------------------------------------


async def test_elsewhere_too_a_letter_goes_on_once(elsewhere, running):
    """With broker and store on servers: redriven by several at once, edited before."""
    shop = Shop(elsewhere)
    async with running(elsewhere):
        workflow = await shop.fail()
        (letter,) = await shop.letters.list(activity="pay", error="ConnectionError", workflow=str(workflow))
        await shop.letters.edit(letter.id, variables={"price": 7})
        shop.is_down = False
        tries = await asyncio.gather(*(shop.letters.redrive(letter.id) for _ in range(4)), return_exceptions=True)
        assert await workflow.result(SOON) == "shipped lamp for 7"
        assert sum(isinstance(one, DeadLetterNotFound) for one in tries) == 3
        assert await shop.letters.count() == 0
    assert shop.ran.count(("pay", 1, 1)) == 1


# --- without a store -------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "rabbitmq", "redis"])
def storeless(request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Any) -> App:
    """An App that remembers nothing, on each broker that keeps what it has."""
    if request.param == "sqlite":
        return make_app(f"sqlite:///{tmp_path / 'paigeant.db'}", "none")
    return make_app(request.getfixturevalue(f"{request.param}_url"), "none")


async def letters_of(app: App, count: int) -> Any:
    async def all_there():
        found = await app.dead_letters.list()
        return [found] if len(found) == count else None

    (found,) = await until_async(all_there, SOON)
    return found


async def test_without_a_store_letters_wait_in_a_queue_and_go_on_from_there(storeless, running):
    """Looked at, edited, sent again, thrown away; the others stay where they are."""
    shop, done = Shop(storeless), asyncio.Event()
    app = storeless
    app.activity(name="tell")(lambda shipped: done.set())
    async with running(app):
        await app.dispatch("order", "pay", "ship", "tell", variables={"item": "lamp", "price": 5}, id="w-1")
        await app.dispatch("order", "pay", variables={"item": "sofa", "price": 9}, id="w-2")
        await app.transport.send([Outgoing(queue=f"{app.prefix}.pay", body=b"garbage\x1b[2J")])
        found = {one.correlation_id: one for one in await letters_of(app, 3)}
        assert (found["w-1"].kind, found["w-1"].activity, found["w-1"].error.type) == (
            "exhausted",
            "pay",
            "ConnectionError",
        )
        assert (found[""].kind, found[""].body) == ("unreadable", b"garbage\x1b[2J")
        assert [one.correlation_id for one in await shop.letters.list(workflow="w-2")] == ["w-2"]
        with pytest.raises(DeadLetterError, match="cannot be read"):
            await shop.letters.redrive(found[""].id)
        with pytest.raises(DeadLetterNotFound, match="no dead letter '7'"):
            await shop.letters.redrive(7)
        with pytest.raises(MessageTooLarge, match="'item'"):
            await shop.letters.edit(found["w-1"].id, variables={"item": "x" * 2_000_000})
        edited = await shop.letters.edit(found["w-1"].id, arguments={"price": 6})
        assert (edited.reason, edited.error) == (found["w-1"].reason, found["w-1"].error)
        shop.is_down = False
        assert (await shop.letters.redrive(edited.id)).epoch == 1
        await asyncio.wait_for(done.wait(), SOON)
        await shop.letters.discard(found[""].id)
        (left,) = await letters_of(app, 1)
        assert left.id == found["w-2"].id
        assert (await shop.letters.redrive_all(activity="pay")).done == [left.id]
        await letters_of(app, 0)
        with pytest.raises(StoreRequired):
            await app.workflow("w-1").fork("pay")


# --- workflows that had failed ---------------------------------------------------------------------------------------


async def test_a_failed_workflow_is_retried_from_the_step_that_failed(shop, running):
    """Whoever waits for it again gets its result."""
    async with running(shop.app):
        workflow = await shop.fail()
        shop.is_down = False
        assert await workflow.retry(by="ada") == ["2"]
        assert await workflow.result(SOON) == "shipped lamp for 5"
        with pytest.raises(WorkflowError, match="is completed: no step of it waits for an operator") as over:
            await workflow.retry()
    assert f"paigeant fork {workflow} --from STEP" in over.value.hint
    assert [one for one in shop.ran if one[0] == "order"] == [("order", 0, 0)]


async def test_what_was_taken_back_is_not_retried(app, running):
    """Its hint says what can be done."""
    app.activity(name="reserve")(lambda: "a seat").compensate(lambda seat: None)

    @app.activity
    def pay() -> None:
        raise ConnectionError

    async with running(app):
        workflow = await app.dispatch("reserve", pay)
        with pytest.raises(WorkflowFailed, match="compensated"):
            await workflow.result(SOON)
        assert await app.dead_letters.list() == []
        with pytest.raises(WorkflowError, match="is compensated") as wrong:
            await workflow.retry()
        assert "paigeant dispatch" in wrong.value.hint


async def test_compensations_that_failed_are_redriven_one_by_one(app, running):
    """The workflow is compensated when the last of them is done."""
    broken, undone = {"a", "b"}, list[str]()

    def undoable(name: str) -> None:
        def undo(output: str) -> None:
            if output in broken:
                raise ConnectionError(output)
            undone.append(output)

        app.activity(name=name)(lambda: name).compensate(retry=RetryPolicy(attempts=1))(undo)

    undoable("a")
    undoable("b")

    @app.activity
    def fail() -> None:
        raise ValueError("no")

    async with running(app):
        workflow = await app.dispatch("a", "b", fail)
        with pytest.raises(WorkflowFailed, match="compensation incomplete"):
            await workflow.result(SOON)
        letters = {one.activity: one for one in await app.dead_letters.list()}
        assert {one.heading for one in letters.values()} == {"back"}
        broken.clear()
        await app.dead_letters.redrive(letters["b"].id)
        with pytest.raises(WorkflowFailed, match="compensation incomplete"):
            await workflow.result(SOON)
        await app.dead_letters.redrive(letters["a"].id)
        with pytest.raises(WorkflowFailed, match="no; compensated"):
            await workflow.result(SOON)
    assert undone == ["b", "a"]


async def test_a_retried_parent_dispatches_again_the_children_that_failed(app, running):
    """Those that completed are not run again, signals that came are still there, and nobody is asked twice."""
    ran, is_down = list[str](), [True]

    @app.activity
    def child(name: str) -> str:
        ran.append(name)
        if name == "bad" and is_down:
            raise ConnectionError("child is down")
        return name.upper()

    @app.activity
    def parent(ctx: ActivityContext) -> list[str]:
        word = ctx.await_signal("word")
        children = [ctx.dispatch(child.step(name=name)) for name in ("good", "bad")]
        return [word, *(ctx.wait_for(one) for one in children)]

    async with running(app):
        workflow = await app.dispatch(parent)
        await workflow.signal("word", "hello")
        with pay_fails("child is down"):
            await workflow.result(SOON)
        is_down.clear()
        await workflow.retry()
        assert await workflow.result(SOON) == ["hello", "GOOD", "BAD"]
    assert sorted(ran) == ["bad", "bad", "good"]


async def test_a_workflow_past_its_deadline_gets_another_one_first(app, running):
    """Sent again as it is, it would fail at once."""

    app.activity(name="work")(lambda: "done")
    async with running(app):
        workflow = await app.dispatch(await_signal("never"), "work", deadline=0.05)
        with pytest.raises(WorkflowFailed, match="DeadlineReached"):
            await workflow.result(SOON)
        with pytest.raises(WorkflowError, match="its workflow's deadline has passed") as late:
            await workflow.retry()
        (letter,) = await app.dead_letters.list()
        assert late.value.hint == f"give it another: paigeant dlq edit {letter.id} --deadline 3600"
        await app.dead_letters.edit(letter.id, deadline=60)
        await workflow.retry()
        await workflow.signal("never", 1)
        assert await workflow.result(SOON) == "done"

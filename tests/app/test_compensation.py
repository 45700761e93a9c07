"""Taking back what was done: which compensations run, with what, and how the workflow ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers import until_async
from pydantic import BaseModel

from paigeant import ActivityContext, App, Depends, PaigeantMessage, RetryPolicy, scatter
from paigeant.errors import ConfigurationError, WorkflowFailed
from paigeant.records.workflow import Status
from paigeant.wire import codec

pytestmark = pytest.mark.anyio

QUICKLY = RetryPolicy(attempts=3, delay=0.01)


@pytest.fixture(params=["joined", "apart"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Path) -> App:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    return make_app(store if request.param == "joined" else f"sqlite:///{tmp_path / 'broker.db'}", store)


class Account(BaseModel):
    number: int


@dataclass
class Bank:
    """What the steps did to the world."""

    app: App
    did: list[Any]

    def step(self, name: str, *, undo: Any = None, **options: Any) -> None:
        """An activity that notes that it ran, and a compensation that does."""

        @self.app.activity(name=name)
        def act() -> str:
            self.did.append(name)
            return f"{name} done"

        @act.compensate(**options)
        def back(output: str) -> None:
            if undo is not None:
                undo()
            self.did.append(f"-{name}")

    def fail(self) -> None:
        @self.app.activity
        def fail() -> None:
            raise ValueError("no")


@pytest.fixture
def bank(app: App) -> Bank:
    return Bank(app, [])


async def test_what_was_done_is_taken_back_last_first(bank, running):
    """The step that failed is not; the caller is told the error and that the rest was."""
    for name in "abc":
        bank.step(name)
    bank.fail()
    async with running(bank.app):
        workflow = await bank.app.dispatch("a", "b", "c", "fail", "a")
        with pytest.raises(WorkflowFailed, match=r"(?m)failed: ValueError: no; compensated$"):
            await workflow.result(20)
        assert bank.did == ["a", "b", "c", "-c", "-b", "-a"]
        record = await workflow.record()
        assert (record.status, record.error.type) == (Status.COMPENSATED, "ValueError")
        assert "Traceback" in record.error.traceback
        rows = [(step.id, step.status, step.heading) for step in record.steps if step.started_at]
        assert rows == [
            *[(number, "completed", "forward") for number in "123"],
            ("4", "failed", "forward"),
            *[(number, "compensated", "back") for number in "321"],
        ]
        types = [event.type async for event in workflow.events()]
        assert types[-2:] == ["step_compensated", "workflow_compensated"]
        assert types.index("compensation_started") == types.index("step_failed") + 1


async def test_a_compensation_gets_typed_values_dependencies_and_a_context(app, running):
    """As any activity: those it had when the step ran, whatever changed after it."""
    got: list[Any] = []

    @app.activity
    async def create(email: str, ctx: ActivityContext, tier: str = "free") -> Account:
        ctx.variables["email"] = "changed@b.c"
        got.append(ctx.idempotency_key)
        return Account(number=7)

    def clock() -> str:
        return "now"

    @create.compensate
    async def delete(account: Account, email: str, tier: str, ctx: ActivityContext, at: str = Depends(clock)) -> None:
        got.extend([account, email, tier, at, ctx.is_compensating, ctx.previous, ctx.output("create")["number"]])
        assert ctx.idempotency_key != got[0]
        with pytest.raises(ConfigurationError, match="cannot insert steps"):
            ctx.insert("create")

    @app.activity
    def fail() -> None:
        raise ValueError("no")

    async with running(app):
        workflow = await app.dispatch(create, fail, variables={"email": "a@b.c"})
        with pytest.raises(WorkflowFailed, match="compensated"):
            await workflow.result(20)
        assert got[1:] == [Account(number=7), "a@b.c", "free", "now", True, None, 7]
        assert (await workflow.record()).variables == {"email": "changed@b.c"}


async def test_a_failing_compensation_is_tried_again_then_set_aside(bank, running):
    """The others run; the end says that something was left, and the dead letter has the whole slip."""
    tries = []

    def broken() -> None:
        tries.append(1)
        raise OSError("down")

    bank.step("a")
    bank.step("b", undo=broken, retry=QUICKLY)
    bank.step("c")
    bank.fail()
    async with running(bank.app):
        workflow = await bank.app.dispatch("a", "b", "c", "fail")
        with pytest.raises(WorkflowFailed, match=r"(?m)ValueError: no; compensation incomplete$"):
            await workflow.result(20)
        assert bank.did == ["a", "b", "c", "-c", "-a"]
        assert len(tries) == 3
        [letter] = await bank.app.store.dead_letters()
        assert letter.reason == "compensation failed: OSError: down"
        assert b'"fault"' in letter.body
        assert b'"output":"a done"' in letter.body


async def test_a_compensation_can_wait(bank, running):
    """For a signal, as any step."""
    bank.step("a")

    @bank.app.activity
    def ask() -> None: ...

    @ask.compensate
    def confirm(ctx: ActivityContext) -> None:
        bank.did.append(ctx.await_signal("go"))

    bank.fail()
    async with running(bank.app):
        workflow = await bank.app.dispatch("a", "ask", "fail")

        async def compensating() -> bool:
            return await workflow.status() is Status.COMPENSATING

        await until_async(compensating)
        assert (await workflow.record()).error.type == "ValueError"
        await workflow.signal("go", "ok")
        with pytest.raises(WorkflowFailed, match="compensated"):
            await workflow.result(20)
        assert bank.did == ["a", "ok", "-a"]


async def test_a_parent_is_told_that_its_child_was_taken_back(bank, running):
    """As a failure."""
    bank.step("a")
    bank.fail()

    @bank.app.activity
    def parent(ctx: ActivityContext) -> None:
        ctx.wait_for(ctx.dispatch("a", "fail"))

    async with running(bank.app):
        workflow = await bank.app.dispatch(parent)
        with pytest.raises(WorkflowFailed, match=r"ChildFailed: workflow .*: compensated: ValueError: no"):
            await workflow.result(20)


async def test_a_worker_without_the_compensation_leaves_it_to_others(make_app, running, tmp_path):
    """During a roll-out, say: the message goes back unharmed."""
    url = f"sqlite:///{tmp_path / 'roll-out.db'}"
    old, new = make_app(url), make_app(url)
    did = []
    for one in (old, new):

        @one.activity
        def act() -> None: ...

    @new.activity
    def fail() -> None:
        raise ValueError("no")

    new.activities["act"].compensate(lambda: did.append("-act"))
    async with running(new) as worker:
        workflow = await new.dispatch("act", "fail")
        with pytest.raises(WorkflowFailed, match="compensated"):
            await workflow.result(20)
        assert worker.activities["act"].compensation is not None
    assert did == ["-act"]


async def test_an_error_too_long_for_the_way_back_is_shortened(make_app, running, tmp_path):
    """What was done is taken back all the same."""
    bank = Bank(make_app(f"sqlite:///{tmp_path / 'small.db'}", message_limit=1024), [])
    bank.step("a")

    @bank.app.activity
    def fail() -> None:
        raise ValueError("x" * 10_000)

    async with running(bank.app):
        workflow = await bank.app.dispatch("a", "fail", variables={"note": "x" * 200})
        with pytest.raises(WorkflowFailed, match=r"MessageTooLarge: .* \(after ValueError\); compensated"):
            await workflow.result(20)
        assert bank.did == ["a", "-a"]


async def test_a_way_back_that_cannot_be_written_is_barred_and_says_so(bank, running, monkeypatch):
    """The workflow ends, with everything left standing and the message set aside."""
    encode = codec.encode

    def too_small(message: PaigeantMessage, limit: int) -> bytes:
        return encode(message, 10 if message.routing_slip.is_back else limit)

    monkeypatch.setattr("paigeant.wire.codec.encode", too_small)
    bank.step("a")
    bank.fail()
    async with running(bank.app):
        workflow = await bank.app.dispatch("a", "fail")
        with pytest.raises(WorkflowFailed, match="compensation incomplete"):
            await workflow.result(20)
        assert bank.did == ["a"]
        [letter] = await bank.app.store.dead_letters()
        assert letter.reason.startswith("MessageTooLarge")


async def test_without_a_store_what_was_done_is_taken_back_too(make_app, running, tmp_path):
    """The slip knows all of it."""
    told: list[Any] = []
    bank = Bank(make_app(f"sqlite:///{tmp_path / 'broker.db'}", "none", observers=[told.append]), [])
    bank.step("a")
    bank.step("b")
    bank.fail()
    async with running(bank.app):
        await bank.app.dispatch("a", "b", "fail")

        async def ended() -> bool:
            return any(event.type == "workflow_compensated" for event in told)

        await until_async(ended)
    assert bank.did == ["a", "b", "-b", "-a"]


@pytest.mark.parametrize("length", [120, 250, 255])
async def test_a_branch_is_compensated_whatever_the_length_of_its_step_id(make_app, running, tmp_path, length):
    """The engine writes no message that it cannot read."""
    app, undone = make_app(f"sqlite:///{tmp_path / 'paigeant.db'}"), []

    @app.activity
    async def reserve() -> str:
        return "r"

    @reserve.compensate
    async def release() -> None:
        undone.append("released")

    @app.activity
    async def fail(results: list[Any]) -> None:
        raise ValueError("no")

    async with running(app):
        branch = reserve.step().model_copy(update={"id": "b" * length})
        workflow = await app.dispatch(scatter(branch).model_copy(update={"id": "s" * length}), fail)
        with pytest.raises(WorkflowFailed, match="ValueError: no"):
            await workflow.result(30)
    assert undone == ["released"]


@pytest.mark.parametrize("removed", ["the compensation", "the activity"])
async def test_a_compensation_that_no_code_has_any_more_is_left(app, running, make_app, monkeypatch, removed):
    """After the usual pauses it is set aside, and the compensations of the other steps run (G8)."""
    monkeypatch.setattr("paigeant.runner.runner.RETURN_DELAY", 0.05)
    undone = []

    def release(app: App, *, is_new: bool) -> None:
        @app.activity(queue="shared")
        async def first() -> str:
            return "1"

        @first.compensate
        async def _() -> None:
            undone.append("first")

        if not (is_new and removed == "the activity"):

            @app.activity(queue="shared")
            async def book() -> str:
                return "b"

            if not is_new:
                book.compensate(lambda: undone.append("book"))

        if is_new:

            @app.activity
            async def fail() -> None:
                raise ValueError("no")

    release(app, is_new=False)
    newer = make_app(app.settings.broker_url, app.settings.store_url)
    release(newer, is_new=True)
    workflow = await app.dispatch(app.activities["first"], app.activities["book"], "fail")
    async with running(app):

        async def is_at_the_last() -> bool:
            done = (await workflow.record()).steps
            return sum(step.status == "completed" for step in done) == 2

        await until_async(is_at_the_last, 30)
    async with running(newer):
        with pytest.raises(WorkflowFailed, match="compensation incomplete"):
            await workflow.result(60)
    assert undone == ["first"]
    (letter,) = await newer.dead_letters.list()
    assert "no worker has the compensation of 'book' any more" in letter.reason


async def test_branches_are_taken_back_in_the_reverse_order_of_completion(make_app, running, tmp_path):
    """Step by step over all of them, not branch by branch."""
    app, back = make_app(f"sqlite:///{tmp_path / 'paigeant.db'}"), []
    turn = {name: asyncio.Event() for name in ("b1", "a2", "b2", "end")}

    @app.activity
    async def book(name: str, after: str | None = None, then: str = "end") -> str:
        if after is not None:
            await turn[after].wait()
        asyncio.get_running_loop().call_later(0.02, turn[then].set)  # when this one has its time of completion
        return name

    @book.compensate
    def unbook(name: str) -> None:
        back.append(name)

    @app.activity(retry=RetryPolicy(attempts=1))
    def fail() -> None:
        raise ValueError("no")

    first = [book.step(name="a1", then="b1"), book.step(name="a2", after="a2", then="b2")]
    second = [book.step(name="b1", after="b1", then="a2"), book.step(name="b2", after="b2")]
    async with running(app):
        with pytest.raises(WorkflowFailed):
            await (await app.dispatch(scatter(first, second), fail)).result(20)
        await until_async(lambda: asyncio.sleep(0, len(back) == 4))
    assert back == ["b2", "a2", "b1", "a1"]

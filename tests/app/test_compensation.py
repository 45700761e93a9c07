"""Taking back what was done: which compensations run, with what, and how the workflow ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers import until_async
from pydantic import BaseModel

from paigeant import ActivityContext, App, Depends, PaigeantMessage, RetryPolicy, codec
from paigeant.errors import ConfigurationError, WorkflowFailed
from paigeant.records import Status

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
        with pytest.raises(WorkflowFailed, match=r"failed: ValueError: no; compensated$"):
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
        with pytest.raises(WorkflowFailed, match=r"ValueError: no; compensation incomplete$"):
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

    monkeypatch.setattr("paigeant.codec.encode", too_small)
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

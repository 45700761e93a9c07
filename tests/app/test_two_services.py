"""Two services with a key and rights of their own share brokers and stores; a stranger with a broker does no harm."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from helpers import until_async
from signing import Deployment

from paigeant import ActivityContext, ActivitySpec, App, PaigeantMessage, RetryPolicy, RoutingSlip, Workflow, scatter
from paigeant.decisions.plan import Send
from paigeant.errors import Untrusted, WorkflowFailed
from paigeant.records.workflow import Letters
from paigeant.transport import Outgoing

pytestmark = pytest.mark.anyio

SOON = 20
SHOP = {"dispatch": ["*"], "run": ["check", "ship", "pack", "spread"], "insert": ["pack", "charge"]}
BANK = {"run": ["charge"]}


@pytest.fixture(params=["joined", "rabbitmq and postgres"])
def make(request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Any) -> Callable[..., App]:
    """Makes the App of a service: ``shop``, ``bank``, and ``thief``, whose key nobody has given a right."""
    deployment = Deployment(tmp_path)
    for name, rights in {"shop": SHOP, "bank": BANK, "thief": {}}.items():
        deployment.add(name, rights)
    own = tmp_path / "own.toml"
    rules = "".join(f'[[key]]\nname = "{name}"\ndispatch = ["*"]\n' for name in deployment.rules)
    own.write_text(f'audience = "{deployment.audience}"\nkeys = "keys"\n{rules}')
    urls = [f"sqlite:///{tmp_path / 'paigeant.db'}", None]
    if request.param != "joined":
        urls = [request.getfixturevalue("rabbitmq_url"), request.getfixturevalue("postgres_url")]

    def made(name: str, signing: str = "required", *, trusts_itself: bool = False) -> App:
        if signing == "off":
            return make_app(*urls, signing="off")
        return make_app(
            *urls,
            signing=signing,
            signing_key=deployment.key(name),
            trust=str(own) if trusts_itself else deployment.trust,
        )

    return made


@pytest.fixture
def ran() -> list[str]:
    """The names of the steps that have run, in order."""
    return []


def stock(shop: App, ran: list[str]) -> None:
    @shop.activity(retry=RetryPolicy(attempts=2, delay=0))
    def check(ctx: ActivityContext) -> str:
        ran.append("check")
        if ctx.attempt == 1 and ran.count("check") == 1:
            raise ValueError("once")
        return "checked"

    @check.compensate
    def undo_check() -> None:
        ran.append("undo check")

    @shop.activity
    def ship(ctx: ActivityContext, fails: bool = False) -> str:
        ran.append("ship")
        if fails:
            raise ValueError("no ship")
        checked: str = ctx.output("check")
        return checked

    @shop.activity
    def pack(ctx: ActivityContext) -> None:
        ran.append("pack")
        ctx.insert(ActivitySpec(name="charge", arguments={"amount": 2}))

    @shop.activity
    async def spread() -> None: ...


def bank_of(app: App, ran: list[str]) -> None:
    @app.activity
    def charge(amount: int) -> int:
        ran.append(f"charge {amount}")
        return amount

    @charge.compensate
    def refund(amount: int) -> None:
        ran.append(f"refund {amount}")


def charge(amount: int) -> ActivitySpec:
    return ActivitySpec(name="charge", arguments={"amount": amount})


async def letter(app: App, count: int = 1) -> list[str | None]:
    """The codes of the messages that were refused, once there are so many."""

    async def found() -> Any:
        letters = await app.store.dead_letters(100, Letters())
        return [one.code for one in letters] if len(letters) >= count else None

    return await until_async(found, SOON)


async def test_a_workflow_alternates_between_two_services(make: Any, running: Any, ran: list[str]) -> None:
    """With a retry, an insertion and a scatter; each runs only what is its own."""
    shop, bank = make("shop"), make("bank")
    stock(shop, ran)
    bank_of(bank, ran)
    async with running(shop), running(bank):
        workflow = await shop.dispatch(
            ActivitySpec(name="check"), charge(1), ActivitySpec(name="pack"), scatter(charge(3), charge(4)), "ship"
        )
        assert await workflow.result(timeout=SOON) == "checked"
    assert ran[:5] == ["check", "check", "charge 1", "pack", "charge 2"]
    assert (sorted(ran[5:7]), ran[7:]) == (["charge 3", "charge 4"], ["ship"])
    assert await shop.dead_letters.list() == []


async def test_the_way_back_leads_over_both(make: Any, running: Any, ran: list[str]) -> None:
    shop, bank = make("shop"), make("bank")
    stock(shop, ran)
    bank_of(bank, ran)
    async with running(shop), running(bank):
        workflow = await shop.dispatch("check", charge(1), ActivitySpec(name="ship", arguments={"fails": True}))
        with pytest.raises(WorkflowFailed, match="no ship; compensated"):
            await workflow.result(timeout=SOON)
    assert ran[-2:] == ["refund 1", "undo check"]


def begun(app: App, *steps: ActivitySpec) -> tuple[PaigeantMessage, Outgoing]:
    """A message as this App would publish it, signed with its key."""
    itinerary = tuple(
        step.model_copy(update={"id": str(at), "queue": f"{app.settings.queue_prefix}.{step.name}"})
        for at, step in enumerate(steps, 1)
    )
    message = PaigeantMessage(routing_slip=RoutingSlip(itinerary=itinerary))
    return message, app.dispatcher.packing.begun(Send(message), time.time()).outgoing[0]


async def test_what_a_stranger_publishes_runs_nothing(make: Any, running: Any, ran: list[str]) -> None:
    """Unsigned, signed by a key without rights, or changed on its way; the worker goes on."""
    shop, unsigned = make("shop"), make("", "off")
    thief, greedy = make("thief", trusts_itself=True), make("bank", trusts_itself=True)
    stock(shop, ran)
    step = ActivitySpec(name="check")
    _, plain = begun(unsigned, step)
    _, stolen = begun(thief, step)
    _, bank = begun(greedy, step)
    _, honest = begun(shop, ActivitySpec(name="ship", arguments={"fails": False}))
    changed = honest.body.replace(b'"fails":false', b'"fails":true ')
    assert changed != honest.body
    forged = [plain.body, stolen.body, bank.body, changed, honest.body[:-40], b"[]"]
    await shop.transport.send([Outgoing(queue=f"{shop.settings.queue_prefix}.check", body=body) for body in forged])
    async with running(shop):
        codes = await letter(shop, len(forged))
        assert ran == []
        workflow = await shop.dispatch("check")
        assert await workflow.result(timeout=SOON) == "checked"
    expected = ["dispatch", "dispatch", "other-message", "unreadable", "unsigned", "unsigned"]
    assert sorted(code or "none" for code in codes) == expected
    assert await shop.store.counts() == {"completed": 1}


async def test_a_service_without_the_right_cannot_dispatch(make: Any) -> None:
    """It is told at once, and what to add to the policy."""
    bank = make("bank")
    with pytest.raises(Untrusted, match="key 'bank' may not dispatch") as refused:
        await bank.dispatch("check")
    assert 'dispatch = ["test"]' in str(refused.value.hint)
    assert await bank.store.counts() == {}


async def test_a_replay_of_a_finished_message_runs_nothing(make: Any, running: Any, ran: list[str]) -> None:
    shop = make("shop")
    stock(shop, ran)
    message, outgoing = begun(shop, ActivitySpec(name="check"))
    async with running(shop):
        await shop.transport.send([outgoing])
        workflow: Workflow[Any] = shop.workflow(message.correlation_id)
        await until_async(lambda: shop.store.brief(workflow.correlation_id), SOON)
        assert await workflow.result(timeout=SOON) == "checked"
        await shop.transport.send([Outgoing(queue=outgoing.queue, body=outgoing.body) for _ in range(100)])
        again = await shop.dispatch("check")
        assert await again.result(timeout=SOON) == "checked"
    assert ran == ["check", "check", "check"]


async def test_signing_is_switched_on_while_workflows_run(make: Any, running: Any, ran: list[str]) -> None:
    """``off``, then ``accept``: what began before goes on. Then ``required``: only what is signed does."""
    off, accept, required = make("", "off"), make("shop", "accept"), make("shop")
    for app in (off, accept, required):
        stock(app, ran)
    before = await off.dispatch("check", "pack")
    late = await off.dispatch("check")
    async with running(off):
        await until_async(lambda: _completed(off, before, 1), SOON)
        await late.result(timeout=SOON)
    signed = await accept.dispatch("check")
    async with running(accept):
        assert await signed.result(timeout=SOON) == "checked"
        await until_async(lambda: _completed(accept, before, 2), SOON)
    left = await off.dispatch("check")
    kept = await accept.dispatch("check")
    async with running(required):
        assert await kept.result(timeout=SOON) == "checked"
        assert await letter(required) == ["unsigned"]
    assert (await left.status()).value == "running"


async def _completed(app: App, workflow: Workflow[Any], count: int) -> bool:
    record = await app.store.workflow(workflow.correlation_id)
    return record is not None and sum(one.status == "completed" for one in record.steps) >= count

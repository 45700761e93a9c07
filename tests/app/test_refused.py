"""Messages that a worker refuses, and messages of strangers: nothing of the workflow that they name changes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from dataclasses import replace

import pytest
from click.testing import CliRunner
from helpers import until_async

from paigeant import ActivityContext, Grant
from paigeant.cli import cli
from paigeant.errors import WorkflowFailed
from paigeant.events import MessageRefused
from paigeant.records.workflow import Status
from paigeant.runner import refusals
from paigeant.transport import Outgoing
from paigeant.wire.ids import derive_child_id, derive_message_id
from paigeant.wire.slip import ActivitySpec

pytestmark = pytest.mark.anyio

SOON = 30


@pytest.fixture(params=["joined", "apart"])
def app(request, make_app, tmp_path):
    store = f"sqlite:///{tmp_path / 'store.db'}"
    return make_app(store if request.param == "joined" else f"sqlite:///{tmp_path / 'broker.db'}", store)


async def forge(app, id, *steps, slip=None, **fields):  # noqa: A002
    """As anybody with access to the broker can."""
    itinerary = [{"id": str(number), **step} for number, step in enumerate(steps, 1)]
    body = {"spec_version": "1.2", "correlation_id": id, "routing_slip": {"itinerary": itinerary, **(slip or {})}}
    await publish(app, steps[0]["name"], {**body, **fields})


async def publish(app, activity, body, id="anything"):  # noqa: A002
    queue = f"{app.prefix}.{activity}"
    await app.transport.declare(queue)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    await app.transport.send([Outgoing(queue=queue, body=data, id=id)])


async def letters(app, count=1, **filters):
    async def there():
        found = await app.dead_letters.list(**filters)
        return found if len(found) >= count else None

    return await until_async(there, SOON)


def beyond(count):
    """A slip that says that so many steps were inserted, and that none may be."""
    return {"grant": {"steps": 0}, "inserted": {"plan": count}}


@pytest.fixture
def victim(app):
    """A workflow whose step waits for the gate, and its parts."""
    began, gate, undone = asyncio.Event(), asyncio.Event(), []

    @app.activity
    async def slow():
        began.set()
        await gate.wait()
        return "good"

    pay = app.activity(lambda amount: amount, name="pay")
    pay.compensate(lambda amount: undone.append(amount))
    return began, gate, undone


REFUSED = {
    "token": {"obo_token": "no token"},
    "grant": {"slip": beyond(1)},
    "queue": {"slip": {"log": [{"id": "66", "name": "x", "undo": {"queue": "elsewhere.x"}}]}},
    "value": {"step": {"kept": {"arguments.amount": {"digest": "0" * 64, "size": 9, "of": "anns"}}}},
    "version": {"spec_version": "9.0"},
    "unreadable": {"attempt": "many"},
}


@pytest.mark.parametrize("code", REFUSED)
async def test_a_refused_message_changes_nothing_of_the_workflow_that_it_names(app, victim, running, code):
    """It is a dead letter with a code, and observers are told; it says itself which workflow it is of."""
    (began, gate, undone), told = victim, []
    app.observe(MessageRefused)(told.append)
    undo = {"queue": f"{app.prefix}.pay", "arguments": {"amount": 1}}
    given = {**REFUSED[code]}
    slip = given.pop("slip", {"log": [{"id": "67", "name": "pay", "undo": undo}]})
    async with running(app):
        workflow = await app.dispatch("slow", id="victim")
        await began.wait()
        await until_async(lambda: app.store.events("victim", 1))  # its start is recorded
        before = await app.store.events("victim", 0)
        await forge(
            app, "victim", {"name": "pay", "arguments": {"amount": 2}, **given.pop("step", {})}, slip=slip, **given
        )
        (letter,) = await letters(app)
        after, record = await app.store.events("victim", 0), await workflow.record()
        assert (record.status, after, undone) == (Status.RUNNING, before, [])
        gate.set()
        assert await workflow.result(SOON) == "good"
    is_read = code not in ("version", "unreadable")
    kind = {"version": "refused", "unreadable": "unreadable"}.get(code, "untrusted")
    claimed = "victim" if is_read else ""
    assert (letter.code, letter.kind.value, letter.correlation_id, letter.claimed) == (code, kind, "", claimed)
    assert [(one.code, one.claimed, one.correlation_id, one.kept) for one in told] == [(code, claimed, "", True)]


async def test_a_refused_message_of_an_unknown_workflow_does_not_make_it_known(app, victim, running):
    """Nobody dispatched it."""
    async with running(app):
        await forge(app, "nobodys", {"name": "pay", "arguments": {"amount": 2}}, obo_token="none")
        await letters(app, workflow="nobodys")
    assert await app.store.brief("nobodys") is None


async def test_a_discarded_refused_message_leaves_the_workflow_alone(app, victim, running):
    """A letter that was no stranger's would fail the workflow that waits for it."""
    began, gate, undone = victim
    async with running(app):
        workflow = await app.dispatch("slow", id="victim")
        await began.wait()
        await forge(app, "victim", {"name": "pay", "id": "7", "arguments": {"amount": 2}}, slip=beyond(1))
        (letter,) = await letters(app)
        await app.dead_letters.discard(letter.id)
        assert await workflow.status() == "running"
        gate.set()
        assert await workflow.result(SOON) == "good"
    assert undone == []


async def test_people_see_that_a_refused_message_claims_a_workflow(app, victim, running):
    """In the list, in the letter itself, and beside the workflow, which may wait for it."""
    began, gate, _ = victim
    async with running(app):
        await app.dispatch("slow", id="victim")
        await began.wait()
        await forge(app, "victim", {"name": "pay", "id": "7", "arguments": {"amount": 2}}, slip=beyond(1))
        (letter,) = await letters(app)
        url = app.settings.store_url

        async def shown(*arguments):
            return (await asyncio.to_thread(CliRunner().invoke, cli, [*arguments, "--store", url])).output

        assert "victim (claimed)" in await shown("dlq", "list", "--workflow", "victim")
        assert "claimed workflow  victim" in await shown("dlq", "show", str(letter.id))
        for command in ("workflow", "waiting"):
            assert f"paigeant dlq show {letter.id}" in await shown(command, "victim")
        gate.set()


async def test_of_a_flood_of_refused_messages_few_are_kept(app, victim, running, monkeypatch):
    """Every hundredth, and the first that names a workflow that runs: its only message may be among them."""
    monkeypatch.setattr(refusals, "MOST_AN_HOUR", 2)
    began, gate, _ = victim
    told = []
    app.observe(MessageRefused)(told.append)
    async with running(app):
        await app.dispatch("slow", id="victim")
        await began.wait()
        for number in range(6):
            await forge(app, f"flood-{number}", {"name": "pay", "arguments": {"amount": 2}}, slip=beyond(1))
        for attempt in (1, 2):
            await forge(
                app, "victim", {"name": "pay", "id": "7", "arguments": {"amount": 2}}, slip=beyond(1), attempt=attempt
            )
        await until_async(lambda: _enough(told, 8), SOON)
        gate.set()
    kept = [one.claimed for one in told if one.kept]
    assert (len(kept), kept.count("victim")) == (3, 1) if "victim" not in kept[:2] else (2, 1)
    assert len(await app.dead_letters.list()) == len(kept)


async def _enough(told, count):
    return len(told) >= count


def test_every_hundredth_is_kept_beyond_the_limit():
    """And after an hour they are counted anew."""
    tally = refusals.Tally()
    kept = [number for number in range(1, 1301) if tally.add(10.0)]
    assert kept == [*range(1, 1001), 1100, 1200, 1300]
    assert tally.add(10.0 + 3600)


async def test_a_step_beyond_its_own_grant_still_fails_its_workflow(app, running):
    """That is what the worker computed itself, and no stranger's claim."""

    @app.activity
    def plan(ctx: ActivityContext):
        ctx.insert("plan")

    async with running(app):
        with pytest.raises(WorkflowFailed, match="GrantExceeded"):
            await (await app.dispatch("plan", grant=Grant(steps=0))).result(SOON)


# --- ends of branches and children -----------------------------------------------------------------------------------


async def test_a_stranger_ends_no_child(app, running):
    """Not even under the id that the child is going to have, and that everybody can compute."""
    gate, ready = asyncio.Event(), asyncio.Event()

    @app.activity
    async def work():
        return "honest"

    @app.activity
    async def parent(ctx: ActivityContext):
        ready.set()
        await gate.wait()
        child = ctx.dispatch("work")
        return [child, ctx.wait_for(child)]

    app.activity(lambda: "EVIL", name="evil")
    child = derive_child_id("family", "1", 0)
    async with running(app):
        workflow = await app.dispatch("parent", id="family")
        await ready.wait()
        await forge(app, child, {"name": "evil"}, parent="family")
        await until_async(lambda: _ended(app, child), SOON)
        gate.set()
        found, output = await workflow.result(SOON)
        record = await app.store.brief(found)
    assert (output, record.parent, record.introduced) == ("honest", "family", False)


async def _ended(app, id):  # noqa: A002
    found = await app.store.brief(id)
    return found is not None and found.status.is_terminal


async def test_a_workflow_that_only_a_message_brought_has_no_parent(app, running):
    """So it belongs to no family, and no join of it waits for it."""
    app.activity(lambda: 1, name="work")
    async with running(app):
        await forge(app, "eve", {"name": "work"}, parent="ann", branch={"join": "join:1", "index": 0})
        await until_async(lambda: _ended(app, "eve"), SOON)
    record = await app.store.brief("eve")
    assert (record.parent, record.introduced) == (None, True)


# --- whose values ----------------------------------------------------------------------------------------------------


async def test_relatives_read_large_values_of_each_other(app, running):
    """A child those of its parent, a fork those of its origin."""
    large = "x" * 100_000

    @app.activity
    def make() -> str:
        return "small"

    @app.activity
    def size(ctx: ActivityContext, text: str) -> list:
        child = ctx.dispatch("length", variables={"text": text})
        return [len(text), ctx.wait_for(child)]

    app.activity(lambda text: len(text), name="length")
    async with running(app):
        workflow = await app.dispatch("make", "size", variables={"text": large})
        assert await workflow.result(SOON) == [100_000, 100_000]
        fork = await workflow.fork("size")
        assert await fork.result(SOON) == [100_000, 100_000]
    assert await app.dead_letters.list() == []


# --- queues of other Apps --------------------------------------------------------------------------------------------


async def test_a_worker_publishes_to_the_apps_that_its_store_knows(make_app, running, tmp_path):
    """It refuses a message that names a queue of any other App. Redriven, the message runs when the store knows it."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    shop, bank = make_app(url), make_app(url, queue_prefix="bank")
    shop.activity(lambda: 1, name="order")
    bank.activity(lambda: "paid", name="pay")
    steps = [{"name": "order"}, {"name": "pay", "queue": "bank.pay"}]
    async with running(shop):
        await forge(shop, "eve-1", *steps)
        (letter,) = await letters(shop, code="queue")
        assert "bank.pay" in letter.reason
    async with running(bank):
        pass  # the store knows it from now on
    async with running(shop), running(bank):
        await shop.dead_letters.redrive(letter.id)
        await until_async(lambda: _ended(shop, "eve-1"), SOON)
        assert await shop.workflow("eve-1").result(SOON) == "paid"


async def test_the_recorded_plan_may_name_any_queue(make_app, running, tmp_path):
    """The program that dispatched the workflow said it to the store itself."""
    shop = make_app(f"sqlite:///{tmp_path / 'store.db'}")
    shop.activity(lambda: 1, name="order")
    async with running(shop):
        await shop.dispatch("order", ActivitySpec(name="pay", queue="bank.pay"))
        await until_async(lambda: _has_depth(shop, "bank.pay"), SOON)
    assert await shop.dead_letters.list() == []


async def _has_depth(app, queue):
    return await app.transport.depth(queue)


@pytest.mark.parametrize(("allowed", "is_refused"), [((), True), (("bank",), False), (("*",), False)])
async def test_the_setting_replaces_these_rules(make_app, running, tmp_path, monkeypatch, allowed, is_refused):
    """It lists the queue prefixes of other Apps; none, or all."""
    monkeypatch.setenv("PAIGEANT_PUBLISH_TO", json.dumps(allowed))
    shop = make_app(f"sqlite:///{tmp_path / 'store.db'}")
    shop.activity(lambda: 1, name="order")
    async with running(shop):
        await shop.dispatch("order", ActivitySpec(name="pay", queue="bank.pay"))
        await (letters(shop, code="queue") if is_refused else until_async(lambda: _has_depth(shop, "bank.pay"), SOON))


# --- ids that are taken in advance -----------------------------------------------------------------------------------


@pytest.mark.parametrize("broker", ["sqlite", "redis"])
async def test_a_message_with_the_id_of_a_step_to_come_does_not_displace_it(
    request, make_app, tmp_path, running, broker
):
    """It waits in the queue of that step before the honest message is published."""
    store = f"sqlite:///{tmp_path / 'store.db'}"
    app = make_app(store if broker == "sqlite" else request.getfixturevalue("redis_url"), store)
    app.activity(lambda: 7, name="first")
    app.activity(lambda output: output + 1, name="second")
    taken = derive_message_id("honest", "2", "forward", 1)
    await app.connect()
    await publish(app, "second", b"a stranger's bytes", taken)
    workflow = await app.dispatch("first", "second", id="honest")
    async with running(app):
        assert await workflow.result(SOON) == 8
        (letter,) = await letters(app)
    assert letter.code == "unreadable"


async def test_the_same_message_published_twice_waits_once(make_app, tmp_path):
    """Same id and same bytes: one message."""
    app = make_app(f"sqlite:///{tmp_path / 'broker.db'}")
    await app.connect()
    for _ in range(2):
        await publish(app, "work", b"same", "id-1")
    assert await app.transport.depth(f"{app.prefix}.work") == 1


# --- rows that nobody wrote ------------------------------------------------------------------------------------------


async def test_a_completed_row_without_successor_does_not_stop_the_workflow(make_app, tmp_path, running):
    """Where broker and store are apart, its step runs again, under the next attempt."""
    app = make_app(f"sqlite:///{tmp_path / 'broker.db'}", f"sqlite:///{tmp_path / 'store.db'}")
    ran = []
    app.activity(lambda: ran.append(1) or "ran", name="work")
    app.activity(lambda output: f"after {output}", name="last")
    workflow = await app.dispatch("work", "last", id="honest")
    row = (derive_message_id("honest", "1", "forward", 1), "honest", "1", "work", 1, 1, "completed", "eve", 1.0, 2.0)
    names = (
        "message_id, correlation_id, step_id, activity, attempt, deliveries, status, worker, started_at, finished_at"
    )
    with sqlite3.connect(tmp_path / "store.db") as database:
        database.execute(f"insert into paigeant_step ({names}, heading) values ({'?,' * 10} 'forward')", row)
    database.close()
    async with running(app):
        assert await workflow.result(SOON) == "after ran"
    assert ran == [1]


async def test_without_a_store_a_worker_remembers_what_it_has_run(make_app, tmp_path, running):
    """A copy does not run again, also if its bytes are others."""
    app, ran = make_app(f"sqlite:///{tmp_path / 'broker.db'}", "none"), []
    app.activity(lambda n: ran.append(n), name="work")
    app.activity(lambda: ran.append("end"), name="end")
    async with running(app):
        for n in (1, 1, 2):
            await forge(app, "w", {"name": "work", "arguments": {"n": n}})
        await until_async(lambda: _empty(app, ran), SOON)
        await forge(app, "other", {"name": "end"})
        await until_async(lambda: _has_end(ran), SOON)
    assert ran in ([1, "end"], [2, "end"])


async def _empty(app, ran):
    return ran and await app.transport.depth(f"{app.prefix}.work") == 0


async def _has_end(ran):
    return "end" in ran


def test_the_name_of_a_message_is_made_of_its_id_and_its_bytes():
    """Its delay and headers do not matter: a message that goes back to its queue is the same."""
    one = Outgoing(queue="q", body=b"1", id="i")
    assert one.name != replace(one, body=b"2").name
    assert one.name == replace(one, delay=3.0).name

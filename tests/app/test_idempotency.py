"""Idempotency keys: the same key is the same workflow, sent once, and never another one."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from paigeant.errors import IdempotencyConflict, InvalidArguments, StoreRequired, TransportError
from paigeant.stores import keys
from paigeant.wire.slip import ActivitySpec

pytestmark = pytest.mark.anyio

SOON = 30


@pytest.fixture(params=["one database", "broker and store apart", "elsewhere"])
def app(request, make_app, tmp_path):
    """With an activity that remembers its runs."""
    url = f"sqlite:///{tmp_path / 'paigeant.db'}"
    if request.param == "elsewhere":
        made = make_app(request.getfixturevalue("rabbitmq_url"), request.getfixturevalue("postgres_url"))
    elif request.param == "one database":
        made = make_app(url)
    else:
        made = make_app("memory://", url)

    @made.activity
    async def charge(cents: int, customer: str = "ada") -> int:
        made.charged.append(cents)
        return cents

    made.charged = []
    return made


def charging(app, cents, **options):
    """Dispatch a charge of so many cents."""
    return app.dispatch(app.activities["charge"].step(cents=cents), idempotency_key="order-1", **options)


async def test_the_same_key_is_one_workflow(app, running):
    """Whoever repeats a dispatch gets the handle of the first, while it runs and after its end; nothing is sent."""
    async with running(app):
        first = await charging(app, 100)
        again = await charging(app, 100)
        assert await first.result(SOON) == 100
        late = await charging(app, 100)
        assert await late.result(SOON) == 100
        other = await app.dispatch(app.activities["charge"].step(cents=5), idempotency_key="order-2")
        assert await other.result(SOON) == 5
    assert str(first) == str(again) == str(late) != str(other)
    assert app.charged == [100, 5]


async def test_a_repetition_sends_nothing(app):
    """Not even what a receiver would drop."""
    for _ in range(3):
        await charging(app, 100)
    assert await app.transport.depth(app.queue_of(app.activities["charge"])) == 1


async def test_the_same_key_with_another_body_is_refused(app, running):
    """With an error that names the key and the workflow; what was sent first is what runs."""
    first = await charging(app, 100)
    for other in (
        charging(app, 101),
        charging(app, 100, name="refund"),
        charging(app, 100, variables={"customer": "bob"}),
        app.dispatch("charge", variables={"cents": 100}, idempotency_key="order-1"),
    ):
        with pytest.raises(IdempotencyConflict, match=f"'order-1' stands for workflow {first}") as refusal:
            await other
        assert refusal.value.correlation_id == str(first)
    async with running(app):
        assert await first.result(SOON) == 100
    assert app.charged == [100]


async def test_an_id_is_one_workflow_that_does_one_thing(app, running):
    """The same dispatch twice is one workflow; another one under its id is refused, while it runs and later."""
    charge = app.activities["charge"]
    async with running(app):
        first = await app.dispatch(charge.step(cents=1), id="order-7")
        again = await app.dispatch(charge.step(cents=1), id="order-7")
        assert str(first) == str(again)
        assert await first.result(SOON) == 1
        for other in ({"cents": 2}, {"cents": 1, "customer": "bob"}):
            with pytest.raises(IdempotencyConflict, match="order-7 already, and it does something else"):
                await app.dispatch(charge.step(**other), id="order-7")
        with pytest.raises(IdempotencyConflict):
            await app.dispatch(charge.step(cents=1), id="order-7", variables={"x": 1})
    assert app.charged == [1]


async def test_an_id_of_large_values_is_compared_by_their_digests(app):
    """They do not travel in the message."""
    note = app.activity(name="note")(lambda text: None)
    await app.dispatch(note.step(text="a" * 200_000), id="large")
    await app.dispatch(note.step(text="a" * 200_000), id="large")
    with pytest.raises(IdempotencyConflict):
        await app.dispatch(note.step(text="b" * 200_000), id="large")


async def test_how_a_step_is_run_is_no_other_body(app):
    """A service deployed with another time limit repeats its dispatches as before; so does one that sends later."""
    step = app.activities["charge"].step(cents=1)
    first = await app.dispatch(step, idempotency_key="order-1")
    again = await app.dispatch(step.options(timeout=5), idempotency_key="order-1", deadline=60)
    assert str(again) == str(first)


async def test_of_many_at_once_one_is_sent(app, running):
    """And of those with another body none, whoever comes first."""
    tries = await asyncio.gather(*[_tried(charging(app, n % 2)) for n in range(12)], return_exceptions=True)
    taken = [one for one in tries if not isinstance(one, Exception)]
    refused = [one for one in tries if isinstance(one, IdempotencyConflict)]
    assert (len(set(map(str, taken))), len(taken), len(refused)) == (1, 6, 6)
    async with running(app):
        cents = await taken[0].result(SOON)
        assert [await one.result(SOON) for one in taken] == [cents] * 6
    assert app.charged == [cents]


async def _tried(workflow):
    return await workflow


async def test_what_may_not_have_been_sent_is_sent_again(app, running, monkeypatch):
    """The broker was away: the same key brings the workflow on its way when it is back."""
    monkeypatch.setattr(keys, "PATIENCE", 0.2)

    async def away(*_):
        raise TransportError("away")

    await app.connect()
    with monkeypatch.context() as patch:
        patch.setattr(app.transport, "send", away)
        with pytest.raises(TransportError):
            await charging(app, 100)
    again = await charging(app, 100)
    async with running(app):
        assert await again.result(SOON) == 100
    assert app.charged == [100]


def test_a_key_needs_a_store(make_app):
    """It says so at dispatch."""
    app = make_app("memory://", "none")
    with pytest.raises(StoreRequired, match="idempotency key 'k'"):
        app.dispatch(ActivitySpec(name="elsewhere"), idempotency_key="k")


@pytest.mark.parametrize("wrong", [{"id": "w", "idempotency_key": "k"}, {"idempotency_key": ""}])
def test_a_key_is_the_id(app, wrong):
    """So there is none beside it."""
    with pytest.raises(InvalidArguments, match="either id or idempotency_key"):
        app.dispatch("charge", variables={"cents": 1}, **wrong)


PROGRAM = """
import sys
from paigeant import App
from paigeant.errors import IdempotencyConflict
app = App("test", sys.argv[1], queue_prefix="race")
print("ready", flush=True)
sys.stdin.readline()
kept = refused = 0
for n in range(20):
    try:
        app.dispatch("charge", variables={"cents": int(sys.argv[2])}, idempotency_key=f"order-{n}")
        kept += 1
    except IdempotencyConflict:
        refused += 1
print(kept, refused)
"""


def test_two_processes_that_race_agree(tmp_path, make_app):
    """Each key goes to one of them, and each workflow is sent once."""
    url = f"sqlite:///{tmp_path / 'paigeant.db'}"
    racing = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, url, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for n in range(2)
    ]
    for one in racing:
        assert one.stdout.readline() == "ready\n"
    for one in racing:
        one.stdin.write("go\n")
        one.stdin.flush()
    counts = [tuple(map(int, one.communicate(timeout=120)[0].split())) for one in racing]
    assert [sum(pair) for pair in counts] == [20, 20]
    assert sum(kept for kept, _ in counts) == 20
    app = make_app(url, queue_prefix="race")
    assert asyncio.run(app.transport.depth("race.charge")) == 20

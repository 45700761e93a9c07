"""Messages that the broker has lost are sent again from the store; those that somebody holds are not."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from helpers import until_async

from paigeant import ActivityContext, App
from paigeant.events import Event, SignalReceived
from paigeant.records.workflow import RESENT, SAID_WITHIN
from paigeant.runner.returns import HEADER
from paigeant.transport import HANDED_ON, Outgoing
from paigeant.wire.codec import decode

pytestmark = pytest.mark.anyio

SOON = 30


@pytest.fixture
def app(make_app: Callable[..., App], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.setenv("PAIGEANT_RECOVERY_GRACE", "1")
    return make_app(f"sqlite:///{tmp_path / 'broker.db'}", f"sqlite:///{tmp_path / 'store.db'}")


def lose(tmp_path: Path, where: str) -> None:
    """Delete messages from the broker."""
    with closing(sqlite3.connect(tmp_path / "broker.db", timeout=10)) as broker, broker:
        assert broker.execute(f"DELETE FROM paigeant_message WHERE {where}").rowcount == 1


async def test_a_lost_message_is_found_although_others_wait_in_its_queue(app, running, tmp_path):
    """A delayed one, here; it stays where it is."""
    ran = []

    @app.activity
    async def step(name: str) -> str:
        ran.append(name)
        return name

    await app.dispatch(step.step(name="later"), delay=3600)
    lost = await app.dispatch(step.step(name="lost"))
    lose(tmp_path, "available_at IS NULL")
    async with running(app):
        assert await lost.result(SOON) == "lost"
        assert await app.transport.depth(app.queue_of(step)) == 1
    assert ran == ["lost"]


async def test_what_a_busy_worker_holds_is_not_sent_again(app, running):
    """It is overdue for long, and its queue is empty; an idle worker looks for lost messages all the time."""
    ran = []

    @app.activity
    async def step(number: int) -> int:
        ran.append(number)
        await asyncio.sleep(1.0)
        return number

    async with running(app, concurrency=1, prefetch=6):
        workflows = [await app.dispatch(step.step(number=number)) for number in range(6)]

        async def all_are_held() -> bool:
            return await app.transport.depth(app.queue_of(step)) == 0

        await until_async(all_are_held)
        async with running(app, concurrency=1):
            for workflow in workflows:
                await workflow.result(SOON)
    assert sorted(ran) == list(range(6))


async def test_a_copy_of_a_message_that_is_held_is_dropped(app, running):
    """Whichever worker receives it; the step runs once."""
    ran, go_on = [], asyncio.Event()

    @app.activity
    async def step() -> str:
        ran.append(1)
        await go_on.wait()
        return "done"

    queues = [app.queue_of(step), f"{app.prefix}.copies"]

    async def is_dropped() -> bool:
        return await app.transport.depth(queues[1]) == 0

    async with running(app, queues=queues), running(app, queues=queues):
        workflow = await app.dispatch(step)
        for _ in range(4):
            await app.transport.send([await copy_of_held(app, queues[1], {RESENT: "0"})])
            await until_async(is_dropped)
        go_on.set()
        assert await workflow.result(SOON) == "done"
    assert ran == [1]


async def test_a_copy_by_which_a_worker_put_the_message_back_stays(app, running, tmp_path):
    """A worker that let go of a message for this copy may still count as the one that holds it."""
    ran, go_on = [], asyncio.Event()

    @app.activity
    async def step() -> str:
        ran.append(1)
        await go_on.wait()
        return "done"

    queues = [app.queue_of(step), f"{app.prefix}.copies"]

    def headers() -> str:
        with closing(sqlite3.connect(tmp_path / "broker.db", timeout=10)) as broker:
            return str(broker.execute("SELECT headers FROM paigeant_message WHERE queue = ?", queues[1:]).fetchone())

    async def is_put_back() -> bool:
        return HEADER in headers()

    async with running(app, queues=queues), running(app, queues=queues):
        workflow = await app.dispatch(step)
        await app.transport.send([await copy_of_held(app, queues[1], {RESENT: "0", HANDED_ON: "1"})])
        await until_async(is_put_back)
        go_on.set()
        assert await workflow.result(SOON) == "done"
    assert ran == [1]


async def copy_of_held(app: App, queue: str, headers: dict[str, str]) -> Outgoing:
    """The only message once more, in a queue where the broker does not know its id."""
    (sent,) = await until_async(lambda: held_by_somebody(app))
    return Outgoing(queue=queue, body=sent, id=decode(sent, 1_000_000).id, headers=headers)


async def held_by_somebody(app: App) -> list[bytes]:
    """The bytes of the only message, once a worker has said that it holds it."""

    def look() -> list[bytes]:
        rows = app.store.access.reader.exec_driver_sql(
            "SELECT body FROM paigeant_outbox JOIN paigeant_holding USING (message_id)"
        )
        return [bytes(row[0]) for row in rows]

    found: list[bytes] = await app.store.access.run(look)
    return found


async def test_a_message_that_another_worker_may_have_woken_is_sent_as_a_copy(app, running, tmp_path, monkeypatch):
    """Its broker may be slow to confirm: both would arrive, and each would start the step."""
    monkeypatch.setattr("paigeant.stores.waiting.UNSENT_AFTER", -1.0)
    sent: list[Outgoing] = []

    @app.activity
    def wait(ctx: ActivityContext) -> str:
        ctx.await_signal("go")
        return "went"

    async def is_parked() -> bool:
        return bool(await app.store.held(workflow.correlation_id))

    async with running(app):
        workflow = await app.dispatch(wait)
        await until_async(is_parked)
    await app.store.record([SignalReceived(correlation_id=workflow.correlation_id, at=1.0, key="signal:go", value=1)])
    [taken] = await app.store.match(workflow.correlation_id)  # by a worker whose broker does not answer
    send = app.transport.send

    async def noted(outgoing: Sequence[Outgoing], record: Sequence[Event] = ()) -> None:
        sent.extend(outgoing)
        await send(outgoing, record)

    monkeypatch.setattr(app.transport, "send", noted)
    await app.timers.sweep()
    assert [(one.id, RESENT in one.headers, one.delay) for one in sent] == [(taken.wait_id, True, SAID_WITHIN)]
    assert not taken.left

"""Workers that start before their broker, and workers whose broker is away while they look for the end of the work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from brokers.servers import RedisServer, free_port
from helpers import until_async
from structlog.testing import capture_logs

from paigeant import App, Worker
from paigeant.errors import StoreError, TransportError

pytestmark = pytest.mark.anyio


def _told(logs: list, *levels: str) -> list[str]:
    return [one["event"] for one in logs if one["log_level"] in levels and one["event"].startswith(("could", "able"))]


@pytest.mark.parametrize("burst", [False, True])
async def test_a_worker_waits_for_its_broker_and_says_so_once(own_redis: RedisServer, prefix: str, burst: bool):
    """It is ready when it consumes, and not before."""
    own_redis.kill()
    app = App(prefix, own_redis.url, "none")
    ran, ready = [], asyncio.Event()
    app.activity(name="hello")(lambda: ran.append(1))
    worker = Worker(app, burst=burst)
    with capture_logs() as logs:
        working = asyncio.create_task(worker.run(ready.set))

        async def has_told() -> bool:
            return bool(_told(logs, "warning"))

        await until_async(has_told)
        await asyncio.sleep(2)  # several tries
        assert not ready.is_set()
        assert not working.done()
        await asyncio.to_thread(own_redis.start)
        await asyncio.wait(
            {working, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED, timeout=30
        )

    assert _told(logs, "warning", "info") == ["could not reach broker or store", "able to reach broker or store again"]
    assert ready.is_set()
    if not burst:
        await app.dispatch("hello")

        async def has_run() -> bool:
            return bool(ran)

        await until_async(has_run)
        worker.stop()
    await asyncio.wait_for(working, 20)


@pytest.mark.parametrize("store", [False, True])
async def test_a_worker_that_waits_can_be_stopped(prefix: str, store: bool):
    """It holds nothing."""
    port = free_port()
    urls = ("memory://", f"postgresql://x@127.0.0.1:{port}/x") if store else (f"redis://127.0.0.1:{port}/0", "none")
    app = App(prefix, *urls)
    app.activity(name="hello")(lambda: None)
    worker = Worker(app)
    with capture_logs() as logs:
        working = asyncio.create_task(worker.run())

        async def has_told() -> bool:
            return bool(_told(logs, "warning"))

        await until_async(has_told)
        worker.stop()
        await asyncio.wait_for(working, 15)


@pytest.mark.parametrize("kind", ["redis", "rabbitmq", "postgres"])
async def test_a_login_that_is_refused_ends_the_worker(
    request: pytest.FixtureRequest, prefix: str, tmp_path: Path, kind: str
):
    """Waiting would not help."""
    url = str(request.getfixturevalue(f"{kind}_url"))
    server = url.rpartition("@")[2].partition("//")[2] if "@" not in url else url.rpartition("@")[2]
    wrong = {
        "redis": f"redis://nobody:wrong@{server}",
        "rabbitmq": f"amqp://nobody:wrong@{server}",
        "postgres": f"postgresql://nobody-here@{server}",
    }[kind]
    app = App(prefix, wrong, f"sqlite:///{tmp_path}/store.db")
    app.activity(name="hello")(lambda: None)

    with pytest.raises((TransportError, StoreError)):
        await asyncio.wait_for(Worker(app).run(), 30)


async def test_a_burst_goes_on_after_its_broker_was_away(own_redis: RedisServer, make_proxy: Callable, prefix: str):
    """A failed look at the queues proves nothing."""
    proxy = make_proxy(own_redis.url)
    app = App(prefix, proxy.url, "none")
    ran = set()

    @app.activity
    async def hello(n: int) -> None:
        await asyncio.sleep(0.05)
        ran.add(n)

    for n in range(40):
        await app.dispatch(hello.step(n=n))
    working = asyncio.create_task(Worker(app, burst=True, concurrency=1).run())

    async def has_begun() -> bool:
        return len(ran) > 5

    await until_async(has_begun)
    await asyncio.to_thread(own_redis.kill)
    proxy.cut()
    await asyncio.sleep(1.5)
    assert not working.done()
    await asyncio.to_thread(own_redis.start)
    await asyncio.wait_for(working, 60)

    assert len(ran) == 40
    await app.close()


async def test_of_several_rabbitmq_servers_the_next_is_tried(rabbitmq_url: str, prefix: str):
    """With our transport, whichever answers."""
    app = App(prefix, f"amqp://127.0.0.1:1//;amqp://127.0.0.1:2//;{rabbitmq_url}", "none")
    ran = asyncio.Event()

    @app.activity
    async def hello() -> None:
        ran.set()

    worker, ready = Worker(app), asyncio.Event()
    working = asyncio.create_task(worker.run(ready.set))
    await app.dispatch(hello)
    await asyncio.wait_for(ran.wait(), 30)
    worker.stop()
    await asyncio.wait_for(working, 20)

    assert ready.is_set()
    await app.close()

"""What a worker says of its health, and how it answers whoever asks."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace

import pytest
from brokers.servers import free_port
from helpers import until_async

from paigeant.errors import ConfigurationError, TransportError
from paigeant.worker.health import LONGEST_SILENCE, Health, served

pytestmark = pytest.mark.anyio


class Broker:
    """Answers, refuses or keeps silent, as it is told."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.obstacle: str | None = None
        self.hears = asyncio.Event()
        self.hears.set()
        self.asked = 0

    async def ping(self, queue: str) -> None:
        self.asked += 1
        await self.hears.wait()
        if self.error is not None:
            raise self.error

    def trouble(self) -> str | None:
        return self.obstacle


@pytest.fixture
async def watched():
    """A health with the broker it watches."""
    health, broker = Health(patience=0.03), Broker()
    health.serving()
    watching = asyncio.create_task(health.watch(broker, "q"))
    yield SimpleNamespace(health=health, broker=broker, watching=watching)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def _asked_again(broker: Broker) -> None:
    """Until an answer that began after now was given."""
    seen = broker.asked

    async def answered() -> bool:
        return broker.asked > seen + 1

    await until_async(answered)


async def test_before_the_first_answer_a_worker_is_not_ready():
    """It lives, though."""
    health = Health()

    assert "starting" in str(health.ready(time.monotonic()).reason)
    assert health.live(time.monotonic()).is_good


async def test_ready_is_who_reached_the_broker_lately(watched):
    """For as long as the patience after the last answer."""
    await _asked_again(watched.broker)
    watched.broker.hears.clear()
    now = time.monotonic()

    assert watched.health.ready(now - 1).is_good
    assert "not answered for" in str(watched.health.ready(now + 1).reason)
    assert watched.health.ready(now + 1).facts["last_round_trip"] >= 1


async def test_the_reason_is_what_the_broker_said(watched):
    """An error is an answer of the thread: the worker lives."""
    await _asked_again(watched.broker)
    watched.broker.error = TransportError("cannot use the broker: gone")
    await _asked_again(watched.broker)
    now = time.monotonic()

    assert watched.health.ready(now + 1).reason == "cannot use the broker: gone"
    assert watched.health.live(now + 1).is_good


async def test_a_transport_that_keeps_silent_for_too_long_is_dead(watched):
    """Then only a new process helps."""
    await _asked_again(watched.broker)
    watched.broker.hears.clear()
    now = time.monotonic()

    assert watched.health.live(now + LONGEST_SILENCE - 1).is_good
    assert not watched.health.live(now + LONGEST_SILENCE + 1).is_good


async def test_a_worker_that_does_not_consume_yet_is_not_ready(watched):
    """Reaching the broker is not enough."""
    health = Health()
    watching = asyncio.create_task(health.watch(watched.broker, "q"))
    await _asked_again(watched.broker)
    watching.cancel()

    assert health.ready(time.monotonic()).reason == "starting: the worker does not consume yet"


async def test_a_background_task_that_keeps_failing_is_named(watched):
    """By its name and the type of its latest error."""
    await _asked_again(watched.broker)
    watched.health.failing = lambda: {"timers": "KeyError"}
    watched.broker.hears.clear()

    assert watched.health.ready(time.monotonic()).reason == "background tasks keep failing: timers (KeyError)"


async def test_a_worker_that_stops_is_not_ready_but_lives(watched):
    """It is left to finish, and gets no more traffic."""
    await _asked_again(watched.broker)
    watched.health.stopping()
    now = time.monotonic()

    assert watched.health.ready(now).reason == "stopping"
    assert watched.health.live(now + 2 * LONGEST_SILENCE).is_good


# --- by HTTP ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def port(watched):
    """Where a ready worker answers."""
    await _asked_again(watched.broker)
    watched.health.patience = 600.0
    number = free_port()
    async with served(watched.health, "127.0.0.1", number):
        yield number


async def _ask(port: int, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer; 0 when the connection was closed without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), body


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /live HTTP/1.1", 200),
        ("GET /ready?from=kubelet HTTP/1.0", 200),
        ("HEAD /ready HTTP/1.1", 200),
        ("GET / HTTP/1.1", 404),
        ("POST /live HTTP/1.1", 405),
        ("GET /live", 400),
        ("\x16\x03\x01 nonsense", 400),
        ("GET /" + "x" * 9000 + " HTTP/1.1", 431),
    ],
)
async def test_requests_and_their_status(port, request_line, status):
    """Nothing that anybody sends is more than a status."""
    code, body = await _ask(port, f"{request_line}\r\nHost: x\r\n\r\n".encode("latin-1"))

    assert code == status
    assert bool(body) == (not request_line.startswith("HEAD"))


async def test_the_body_says_why(port, watched):
    """JSON for people and programs."""
    _, good = await _ask(port, b"GET /ready HTTP/1.1\r\n\r\n")
    watched.health.stopping()
    status, bad = await _ask(port, b"GET /ready HTTP/1.1\r\n\r\n")

    assert json.loads(good)["status"] == "ok"
    assert (status, json.loads(bad)["status"], json.loads(bad)["reason"]) == (503, "failed", "stopping")


async def test_who_connects_and_says_nothing_keeps_nobody_else_waiting(port):
    """Beyond a number of such connections new ones are closed at once; when they go there is room again."""
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(31)]
    assert (await _ask(port, b"GET /live HTTP/1.1\r\n\r\n"))[0] == 200
    for _, writer in idle:
        writer.close()

    async def answers() -> bool:
        return (await _ask(port, b"GET /live HTTP/1.1\r\n\r\n"))[0] == 200

    await until_async(answers)


async def test_a_taken_port_is_an_error_that_says_so(port, watched):
    """At the start, before anything is consumed."""
    with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}"):
        async with served(watched.health, "127.0.0.1", port):
            raise AssertionError("two servers on one port")


async def test_a_transport_that_tells_of_trouble_makes_its_worker_unready(watched):
    """Although the broker answers; the reason is what the transport says."""
    watched.broker.obstacle = "RabbitMQ blocked publishing: low on memory"
    await _asked_again(watched.broker)

    assert watched.health.ready(time.monotonic()).reason == "RabbitMQ blocked publishing: low on memory"

    watched.broker.obstacle = None
    await _asked_again(watched.broker)

    assert watched.health.ready(time.monotonic()).is_good

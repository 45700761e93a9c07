"""``paigeant worker --health-port``: real workers, and a broker that goes and comes back."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
from brokers.servers import RedisServer, free_port
from conftest import CI
from helpers import until

PATIENCE = 40.0


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that may be killed."""
    if not RedisServer.is_installed:
        (pytest.fail if CI else pytest.skip)("redis-server is not installed here")
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.close()


def ask(port: int, path: str) -> tuple[int, dict[str, Any]]:
    """Status and body; status 0 while nobody answers."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except (OSError, HTTPException):
        return 0, {}
    finally:
        connection.close()


def wait_for(port: int, path: str, status: int) -> dict[str, Any]:
    def reached() -> bool:
        return ask(port, path)[0] == status

    until(reached, PATIENCE)
    return ask(port, path)[1]


def test_ready_follows_the_broker_and_live_does_not(terminal, own_redis):
    """The broker goes: 503 with the reason, while the process lives. It comes back: 200, without a restart."""
    port = free_port()
    terminal.environment |= {"PAIGEANT_HEALTH_PATIENCE": "1.5", "PAIGEANT_BROKER_URL": own_redis.url}
    worker = terminal.start("worker", "-A", "work", "--health-port", str(port))
    wait_for(port, "/ready", 200)

    own_redis.kill()

    def says_why() -> bool:
        status, body = ask(port, "/ready")
        return status == 503 and own_redis.url in body["reason"]

    until(says_why, PATIENCE)
    assert ask(port, "/live")[0] == 200

    own_redis.start()
    wait_for(port, "/ready", 200)
    assert worker.process.poll() is None


def test_a_worker_that_finishes_is_not_ready(terminal):
    """It answers until it ends, so that nobody kills it while it finishes what runs."""
    port = free_port()
    terminal.dispatch("work", "slow", seconds=60)
    terminal.environment |= {"PAIGEANT_HEALTH_PORT": str(port)}
    worker = terminal.start("worker", "-A", "work", "--shutdown-timeout", "60")
    terminal.wait_begun()
    wait_for(port, "/ready", 200)

    worker.send(signal.SIGTERM)
    assert wait_for(port, "/ready", 503)["reason"] == "stopping"
    assert ask(port, "/live")[0] == 200
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def test_processes_answer_on_ports_that_count_up(terminal):
    """Each for itself."""
    port = free_port(2)
    terminal.start("worker", "-A", "work", "-w", "2", "--health-port", str(port))

    assert [wait_for(one, "/ready", 200)["status"] for one in (port, port + 1)] == ["ok", "ok"]


def test_a_taken_port_ends_the_worker_with_an_error(terminal):
    """At its start, rather than serve with nobody watching."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = terminal.run("worker", "-A", "work", "--health-port", str(taken.getsockname()[1]), code=78)

    assert "--health-port" in done.stderr

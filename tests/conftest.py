"""What every test can ask for: servers, and a name of its own on each of them.

A missing server skips the test, but fails it in CI, where all of them are started.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    import psycopg
    import redis

CI = os.environ.get("CI", "").lower() in {"1", "true"}

POSTGRES = os.environ.get("PAIGEANT_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
RABBITMQ = os.environ.get("PAIGEANT_TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")
REDIS = os.environ.get("PAIGEANT_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")

SESSION = f"pgt-{uuid.uuid4().hex[:8]}"
"""What the names of this test process on shared servers begin with."""


def _unavailable(server: str, url: str, error: Exception) -> NoReturn:
    reason = f"no {server} at {url.rpartition('@')[2]}: {error}"
    if CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def anyio_backend() -> str:
    """Async tests (``@pytest.mark.anyio``) run on asyncio, as paigeant does."""
    return "asyncio"


@pytest.fixture
def prefix() -> str:
    """A name no other test has: the App's queue prefix, and with it part of every queue and key it makes."""
    return f"{SESSION}-{uuid.uuid4().hex[:8]}"


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _postgres() -> Callable[[str], psycopg.Connection]:
    """Opens autocommit connections to a database of the server by name."""
    psycopg = pytest.importorskip("psycopg")

    def connect(database: str | None = None) -> psycopg.Connection:
        return psycopg.connect(_database(database) if database else POSTGRES, autocommit=True, connect_timeout=3)

    try:
        connect().close()
    except psycopg.OperationalError as error:
        _unavailable("PostgreSQL", POSTGRES, error)
    return connect


def _database(name: str) -> str:
    server, _, _ = POSTGRES.rpartition("/")
    return f"{server}/{name}"


@pytest.fixture
def postgres_url(_postgres: Callable[..., psycopg.Connection], prefix: str) -> Iterator[str]:
    """A database of its own: locks and notifications are per database, so that a schema would not be enough."""
    with _postgres() as server:
        server.execute(f'CREATE DATABASE "{prefix}"')
    yield _database(prefix)
    with _postgres() as server:
        server.execute(f'DROP DATABASE IF EXISTS "{prefix}" WITH (FORCE)')


# --- RabbitMQ --------------------------------------------------------------------------------------------------------


_TESTS_WITH_QUEUES = 8
"""How many tests may leave queues behind. A quorum queue reserves three file handles, and a server that has none to
spare takes no connection any more: with the usual limit of 1,024 after some 300 queues."""

_turns = count(1)


@pytest.fixture(scope="session")
def _rabbitmq() -> Iterator[str]:
    from kombu import Connection

    try:
        with Connection(RABBITMQ, connect_timeout=3) as connection:
            connection.connect()
    except OSError as error:
        _unavailable("RabbitMQ", RABBITMQ, error)
    yield RABBITMQ
    _delete_queues(SESSION)


def _delete_queues(prefix: str) -> None:
    """Delete what this session declared. AMQP cannot list queues, so without ``rabbitmqctl`` they are left."""
    if not shutil.which("rabbitmqctl"):
        return
    from kombu import Connection

    command = ["rabbitmqctl", "--silent", "list_queues", "--no-table-headers", "name"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    with Connection(RABBITMQ, connect_timeout=30) as connection, connection.channel() as channel:
        for name in listed.stdout.split():
            if prefix in name:
                channel.queue_delete(name)


@pytest.fixture
def rabbitmq_url(_rabbitmq: str, prefix: str) -> Iterator[str]:
    """The broker. Queues that have the fixture ``prefix`` in their name are deleted, those of a few tests at once."""
    yield _rabbitmq
    if next(_turns) % _TESTS_WITH_QUEUES == 0:
        _delete_queues(SESSION)


# --- Redis -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _redis() -> Iterator[redis.Redis]:
    redis = pytest.importorskip("redis")
    client = redis.Redis.from_url(REDIS, socket_timeout=3, socket_connect_timeout=3)
    try:
        client.ping()
    except redis.RedisError as error:
        _unavailable("Redis", REDIS, error)
    yield client
    client.close()


@pytest.fixture
def redis_url(_redis: redis.Redis, prefix: str) -> Iterator[str]:
    """The server. Keys that have the fixture ``prefix`` in their name are deleted after the test."""
    yield REDIS
    for key in _redis.scan_iter(match=f"*{prefix}*", count=1000):
        _redis.delete(key)

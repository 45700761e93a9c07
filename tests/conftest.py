"""What every test can ask for: servers, and a name of its own on each of them.

A missing server skips the test, but fails it in CI, where all of them are started.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import processes
import pytest

if TYPE_CHECKING:
    import psycopg
    import redis

for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    # A shell lets its background processes ignore these, and children inherit that. Tests send both to their children.
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

pytest.register_assert_rewrite("paigeant.testing.conformance")  # before the first test that imports it

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


@pytest.fixture(autouse=True)
def logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that run in this process leave its logging alone: tests that come later read what is logged."""
    monkeypatch.setattr("paigeant.runtime.logs.configure", lambda *_: None)


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


@pytest.fixture(scope="session")
def _own_database(_postgres: Callable[..., psycopg.Connection]) -> Iterator[str]:
    """A database for this test process: making one for each test takes longer than most of them."""
    with _postgres() as server:
        server.execute(f'CREATE DATABASE "{SESSION}"')
    yield SESSION
    with _postgres() as server:
        server.execute(f'DROP DATABASE IF EXISTS "{SESSION}" WITH (FORCE)')


@pytest.fixture
def postgres_url(_postgres: Callable[..., psycopg.Connection], _own_database: str) -> str:
    """An empty database that nobody else uses meanwhile: locks and notifications are per database."""
    with _postgres(_own_database) as server:
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        server.execute("DROP SCHEMA public CASCADE")
        server.execute("CREATE SCHEMA public")
    return _database(_own_database)


# --- RabbitMQ --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _rabbitmq() -> Iterator[str]:
    from kombu import Connection

    try:
        with Connection(RABBITMQ, connect_timeout=3) as connection:
            connection.connect()
    except OSError as error:
        _unavailable("RabbitMQ", RABBITMQ, error)
    yield RABBITMQ
    _delete_queues(_listed(SESSION))


@pytest.fixture(scope="session")
def _declared() -> Iterator[set[str]]:
    """The queues that this process has declared."""
    from amqp import Channel

    names = set()
    declare = Channel.queue_declare

    def noted(self: Channel, queue: str = "", *args: Any, **options: Any) -> Any:
        names.add(queue)
        return declare(self, queue, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Channel, "queue_declare", noted)
        yield names


def _listed(prefix: str) -> list[str]:
    """The queues that are there. AMQP cannot list them, so without ``rabbitmqctl`` those of other processes stay."""
    if not shutil.which("rabbitmqctl"):
        return []
    command = ["rabbitmqctl", "--silent", "list_queues", "--no-table-headers", "name"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return [name for name in listed.stdout.split() if prefix in name]


def _delete_queues(names: Collection[str]) -> None:
    from kombu import Connection

    if names:
        with Connection(RABBITMQ, connect_timeout=30) as connection, connection.channel() as channel:
            for name in names:
                channel.queue_delete(name)


@pytest.fixture
def rabbitmq_url(_rabbitmq: str, _declared: set[str], prefix: str) -> Iterator[str]:
    """The broker. Queues that have the fixture ``prefix`` in their name are deleted after the test.

    At once, for a quorum queue reserves three file handles, and a server that has none to spare takes no connection any
    more: with the usual limit of 1,024 after some 300 queues.
    """
    before = processes.started()
    yield _rabbitmq
    known = {name for name in _declared if prefix in name}
    _delete_queues(known if processes.started() == before else known.union(_listed(prefix)))
    _declared -= known


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

"""Spellings of URLs: each is used with our own transport, or refused with what to write. Never something weaker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from kombu import Connection

from paigeant import App, get_transport
from paigeant.config import load_settings
from paigeant.errors import ConfigurationError
from paigeant.transport import Durability
from paigeant.transports import _plan, forget
from paigeant.transports.redis.client import _split

OURS = {
    "sql": "paigeant.transports.sql.transport:Transport",
    "redis": "paigeant.transports.redis.transport:Transport",
    "amqp": "kombu.transport.pyamqp:Transport",
    "tls": "paigeant.transports.amqp.tls:Transport",
}

USED = [
    ("sqlite:///x.db", "sql"),
    ("sqlite:///x.db\n", "sql"),
    ("\tsqlite:///x.db \r\n", "sql"),
    ("\ufeffsqlite:///x.db", "sql"),
    ("sqlite+pysqlite:///x.db", "sql"),
    ("sqlite:///~/x.db", "sql"),
    ("sqlite://", "sql"),
    ("postgresql://u@h/x", "sql"),
    ("postgresql://u@h/x\n", "sql"),
    ("postgres://u@h/x", "sql"),
    ("postgresql+psycopg://u@h/x", "sql"),
    ("postgresql://u@one:5432,two:5433/x", "sql"),
    ("postgresql://u@/x?host=one&host=two", "sql"),
    ("redis", "redis"),
    ("redis\n", "redis"),
    ("redis://h", "redis"),
    ("redis://h:6379/0\n", "redis"),
    ("rediss://h/0", "redis"),
    ("sentinel://one:26379,two:26379/0?master_name=m", "redis"),
    ("sentinel://one:26379;sentinel://two:26379/0?master_name=m", "redis"),
    ("sentinel://:pw@one:26379;two:26379/0?master_name=m", "redis"),
    ("rabbitmq", "amqp"),
    ("amqp://h", "amqp"),
    ("amqp://h//\n", "amqp"),
    ("pyamqp://h", "amqp"),
    ("amqp://one;amqp://two", "amqp"),
    ("amqp://u:p@one//;amqp://u:p@two//;amqp://u:p@three//", "amqp"),
    ("amqp://one;two", "amqp"),
    ("amqps://h", "tls"),
    ("amqps://one;amqps://two", "tls"),
]

REFUSED = [
    ("redis://one;redis://two", "sentinel://"),
    ("redis://one:6379/0;redis://two:6379/0", "sentinel://"),
    ("rediss://one;rediss://two", "sentinel://"),
    ("redis://one,two", "sentinel://"),
    ("redis://u:p@one:6379,two:6379/0", "sentinel://"),
    ("redis://one;two", "sentinel://"),
    ("redis://one;amqp://two", "sentinel://"),
    ("amqp://one;redis://two", "one scheme"),
    ("amqp://one;amqps://two", "one scheme"),
    ("amqps://one;amqp://two", "one scheme"),
    ("amqp://one;kombu+redis://two", "one scheme"),
    ("amqp://one,two", "amqp://one//;amqp://two//"),
    ("amqp://one;sqlite:///x.db", "one scheme"),
    ("sentinel://one;redis://two", "one scheme"),
    ("postgresql://one/x;postgresql://two/x", "postgresql://one:5432,two:5432/name"),
    ("sqlite:///a.db;sqlite:///b.db", ""),
    ("postgresql+asyncpg://u@h/x", "postgresql://u@h/x"),
    ("postgresql+psycopg2://u@h/x", "postgresql://u@h/x"),
    ("postgresql+pg8000://u@h/x", "postgresql://u@h/x"),
    ("postgres+asyncpg://u@h/x", "postgresql://"),
    ("sqlite+aiosqlite:///x.db", "sqlite:///x.db"),
    ("sqlite+pysqlcipher:///x.db", "sqlite:///x.db"),
    ("redis+sentinel://h", "redis://h"),
    ("rediss+tls://h", "rediss://h"),
    ("amqp+ssl://h", "amqp://h"),
    ("pyamqp+x://h", "pyamqp://h"),
    ("redis-streams://h", "redis://h"),
    ("redis-streams+redis://h", "redis://h"),
    ("paigeant://x", "sqlite://"),
    ("paigeant+sqlite:///x.db", "sqlite:///x.db"),
    ("REDIS://h", "redis"),
    ("Amqp://h", "amqp"),
    ("SQLite:///x.db", "sqlite"),
    ("redis:/h", ""),
    ("://h", "for example"),
    ("", "for example"),
    ("redis://h\nredis://i", "on one line"),
    ("sqlite:///a\tb.db", "on one line"),
]


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(("url", "which"), USED)
def test_what_is_accepted_is_used_with_our_transport_for_every_server(url: str, which: str) -> None:
    """Whatever kombu does when the first server is away."""
    transport = get_transport(url)
    try:
        assert transport.features.durability in (Durability.TRANSACTIONAL, Durability.AT_LEAST_ONCE)
        _, connection = _plan(transport.url, 30.0)
        made = connection()
        acting = [made, *(_switched(made, server) for server in made.alt)]
        names = {f"{cls.__module__}:{cls.__qualname__}" for cls in (one.get_transport_cls() for one in acting)}
        assert names == {OURS[which]}
        App("spelt", url)
    finally:
        forget(transport)


def _switched(connection: Connection, url: str) -> Connection:
    other = connection.clone()
    other.switch(url)
    return other


@pytest.mark.parametrize(("url", "write"), REFUSED)
def test_what_is_not_is_refused_at_once_with_what_to_write(url: str, write: str) -> None:
    """At App() and wherever else a broker is named."""
    places = [get_transport, lambda given: App("spelt").use(broker=given)]
    for place in places if url else places[:1]:
        with pytest.raises(ConfigurationError) as caught:
            place(url)
        assert caught.value.hint
        assert write in caught.value.hint
    if url:
        with pytest.raises(ConfigurationError):
            App("spelt", url)


@pytest.mark.parametrize(
    "url", ["postgresql+asyncpg://u@h/x", "postgresql://a/x;postgresql://b/x", "redis://h", "x\ny"]
)
def test_a_store_that_cannot_be_used_is_refused_when_it_is_named(url: str) -> None:
    """Not when the first workflow is recorded."""
    with pytest.raises(ConfigurationError) as caught:
        App("spelt", "memory://", url)
    assert caught.value.hint


def test_lines_that_end_in_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Mounted secrets and shells: every setting may have blanks around it."""
    variables = {
        "BROKER_URL": "redis://h:6379/0\n",
        "STORE_URL": " sqlite:///~/store.db\r\n",
        "CONCURRENCY": "7\n",
        "LOG_LEVEL": "error\n",
        "QUEUE_PREFIX": "shop\n",
        "LEASE_SECONDS": " 5 ",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"PAIGEANT_{name}", value)
    found = load_settings()

    assert (found.broker_url, found.store_url) == ("redis://h:6379/0", f"sqlite:///{tmp_path}/home/store.db")
    assert (found.concurrency, found.log_level, found.queue_prefix, found.lease_seconds) == (7, "error", "shop", 5.0)


def test_the_older_variable_is_tidied_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """PAIGEANT_TRANSPORT."""
    monkeypatch.setenv("PAIGEANT_TRANSPORT", "redis://h\n")

    assert load_settings().broker_url == "redis://h"


def test_a_url_with_a_line_end_is_the_same_file(tmp_path: Path) -> None:
    """And no second one appears."""

    async def use() -> None:
        app = App("spelt", f"sqlite:///{tmp_path}/x.db\n")
        await app.connect()
        await app.close()

    asyncio.run(use())

    assert {path.name.partition("-")[0] for path in tmp_path.glob("x.db*")} == {"x.db"}


def test_several_sentinels_become_one_url_that_names_them_all() -> None:
    """The login, the database and the master's name stand behind any of them."""
    _, connection = _plan("sentinel://:pw@one:26379;sentinel://two:26380/1?master_name=m", 30.0)
    made = connection()

    assert not made.alt
    assert _split(str(made.hostname)) == (":pw@", [("one", 26379), ("two", 26380)], "/1?master_name=m")


def test_a_different_lease_is_a_different_transport(tmp_path: Path) -> None:
    """Not the one that somebody else asked for before."""
    url = f"sqlite:///{tmp_path}/x.db"
    long, short = get_transport(url, lease_seconds=60), get_transport(url, lease_seconds=5)
    try:
        assert long is not short
        assert get_transport(url, lease_seconds=60) is long
    finally:
        for one in (long, short):
            forget(one)


# --- programs of kombu's own -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "transport"),
    [
        ("redis://127.0.0.1:1/0;redis://127.0.0.1:2/0", "paigeant.transports.redis:Transport"),
        ("sqlite:///a.db;sqlite:///b.db", "paigeant.transports.sql:Transport"),
    ],
)
def test_a_kombu_program_with_two_urls_is_refused(url: str, transport: str) -> None:
    """With the second one kombu would use a transport of its own."""
    with Connection(url, transport=transport) as connection, pytest.raises(ConfigurationError, match="has one URL"):
        connection.connect()


def test_sentinels_of_a_kombu_program_stay_with_our_transport() -> None:
    """kombu tries them in turn, each with its own transport, if it is let."""
    url = "sentinel://127.0.0.1:1;sentinel://127.0.0.1:2"
    connection = Connection(
        url, transport="paigeant.transports.redis:Transport", transport_options={"master_name": "m"}
    )
    transport = connection.transport

    assert transport._url == url
    assert not connection.alt
    assert connection.get_transport_cls().__module__ == "paigeant.transports.redis.transport"

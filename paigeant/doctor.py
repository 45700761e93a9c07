"""What a newcomer gets wrong, looked at one thing at a time on the user's own machine and broker.

Every check gives one :class:`Finding`; none of them raises. Nothing is changed: the round trip uses a queue of its own
and leaves it empty.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from paigeant.errors import PaigeantError
from paigeant.transport import BaseTransport, Delivery, Durability, Outgoing
from paigeant.urls import is_database_url, masked

if TYPE_CHECKING:
    from paigeant.app import App

PATIENCE = 10.0
"""Seconds a round trip may take."""

_PACKAGES = ("paigeant", "kombu", "SQLAlchemy", "pydantic", "pydantic-ai-slim")

_MOST_SKEW = 1.0


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it came out, what was found and what to do about it."""

    name: str
    verdict: Verdict
    found: str
    advice: str | None = None


async def examine(app: App) -> AsyncIterator[Finding]:
    """Look at the installation, the broker and the store; each finding as soon as it is there."""
    yield _versions()
    try:
        transport = app.transport
        await transport.connect()
    except PaigeantError as error:
        yield Finding("broker", Verdict.PROBLEM, str(error), error.hint)
    else:
        yield _promise(transport)
        yield await _round_trip(transport, app.prefix)
        for finding in await asyncio.to_thread(_settings_of, app.settings.broker_url):
            yield finding
    yield await _store(app)


def _versions() -> Finding:
    found = [f"Python {platform.python_version()}", *(f"{name} {_version(name)}" for name in _PACKAGES)]
    return Finding("versions", Verdict.OK, ", ".join(found))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"


def _promise(transport: BaseTransport) -> Finding:
    durability, url = transport.features.durability, masked(transport.url)
    if durability is Durability.VOLATILE:
        return Finding("promise", Verdict.WARNING, f"{url} keeps messages in one process", "for tests only")
    if durability is Durability.BEST_EFFORT:
        advice = "use a SQL database, RabbitMQ or Redis (redis://) if the messages matter"
        return Finding("promise", Verdict.WARNING, f"{url} may lose messages when a worker dies", advice)
    return Finding("promise", Verdict.OK, f"{url}: {durability.value.replace('_', ' ')}")


async def _round_trip(transport: BaseTransport, prefix: str) -> Finding:
    queue = f"{prefix}.doctor"  # always the same, so that no broker fills with them
    started = time.perf_counter()
    try:
        async with asyncio.timeout(PATIENCE):
            await transport.declare(queue)
            await transport.send([Outgoing(queue=queue, body=b"{}", id=uuid4().hex)])
            await transport.settle(await first_delivery(transport, queue))
    except TimeoutError:
        return Finding("round trip", Verdict.PROBLEM, f"a message did not come back within {PATIENCE:g} s")
    except PaigeantError as error:
        return Finding("round trip", Verdict.PROBLEM, str(error), error.hint)
    took = (time.perf_counter() - started) * 1000
    return Finding("round trip", Verdict.OK, f"published, received and settled in {took:.1f} ms")


async def first_delivery(transport: BaseTransport, queue: str) -> Delivery:
    """Wait for one delivery from the queue."""
    async with aclosing(transport.consume([queue], 1)) as batches:
        async for batch in batches:
            return batch[0]
    raise AssertionError("consume() ends only when it is closed")


async def _store(app: App) -> Finding:
    try:
        store = app.store
        if store is None:
            advice = 'App(..., store="sqlite:///paigeant.db") or PAIGEANT_STORE_URL'
            return Finding("store", Verdict.WARNING, "none: no results, status or history", advice)
        await store.connect()
        alive = sum(worker.alive for worker in await store.workers())
    except PaigeantError as error:
        return Finding("store", Verdict.PROBLEM, str(error), error.hint)
    where = "in the broker's database: one transaction" if app.dispatcher.joined else "apart from the broker"
    return Finding("store", Verdict.OK, f"{masked(store.url)}, {where}; {alive} workers alive")


# --- how the broker is set up ---------------------------------------------------------------------------------------


def _settings_of(url: str) -> list[Finding]:
    """What the broker's own settings mean for the promise."""
    try:
        if is_database_url(url):
            return _database_settings(url)
        if url.startswith(("redis://", "rediss://")):
            return _redis_settings(url)
    except Exception as error:  # noqa: BLE001 - whatever a server refuses to tell is a finding, not a failure
        return [Finding("settings", Verdict.WARNING, f"the broker does not tell: {type(error).__name__}")]
    return []


def _database_settings(url: str) -> list[Finding]:
    from paigeant.database import Database

    database = Database(url)
    if database.in_memory:
        return []
    with database.reader() as reader:
        if database.is_sqlite:
            return [_sqlite(reader)]
        return [_synchronous_commit(reader), _skew("PostgreSQL", reader)]


def _sqlite(reader: Any) -> Finding:
    number = reader.exec_driver_sql("SELECT sqlite_version()").scalar_one()
    journal = reader.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    found = f"SQLite {number}, journal mode {journal}"
    if tuple(map(int, number.split("."))) < (3, 35):
        return Finding("settings", Verdict.PROBLEM, found, "paigeant needs SQLite 3.35: use a newer Python build")
    if journal != "wal":
        advice = "the file must be on a local disk: network file systems cannot share a write-ahead log"
        return Finding("settings", Verdict.WARNING, found, advice)
    return Finding("settings", Verdict.OK, found)


def _synchronous_commit(reader: Any) -> Finding:
    number = reader.exec_driver_sql("SHOW server_version").scalar_one()
    commit = reader.exec_driver_sql("SHOW synchronous_commit").scalar_one()
    found = f"PostgreSQL {number}, synchronous_commit {commit}"
    if commit == "off":
        return Finding("settings", Verdict.WARNING, found, "a crash of the server loses the last commits: set it to on")
    return Finding("settings", Verdict.OK, found)


def _skew(server: str, reader: Any) -> Finding:
    before = time.time()
    theirs = float(reader.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())
    return _clock(server, theirs - (before + time.time()) / 2)


def _clock(server: str, seconds: float) -> Finding:
    found = f"this machine and {server} differ by {abs(seconds):.2f} s"
    if abs(seconds) > _MOST_SKEW:
        return Finding("clock", Verdict.WARNING, found, "leases go by the server's clock; times in the history do not")
    return Finding("clock", Verdict.OK, found)


def _redis_settings(url: str) -> list[Finding]:
    from paigeant.transports.redis_queue import connect

    client = connect(url)
    info: Any = client.info()
    before = time.time()
    seconds, microseconds = client.time()
    skew = seconds + microseconds / 1e6 - (before + time.time()) / 2
    return [_persistence(info), _eviction(info), _clock("Redis", skew)]


def _persistence(info: dict[str, Any]) -> Finding:
    found = f"Redis {info['redis_version']}, appendonly {'yes' if info['aof_enabled'] else 'no'}"
    if info["aof_enabled"]:
        return Finding("persistence", Verdict.OK, found)
    return Finding("persistence", Verdict.WARNING, found, "a restart loses messages: set appendonly yes")


def _eviction(info: dict[str, Any]) -> Finding:
    policy = info.get("maxmemory_policy", "unknown")
    found = f"maxmemory-policy {policy}"
    if policy == "noeviction" or not info.get("maxmemory"):
        return Finding("eviction", Verdict.OK, found)
    return Finding("eviction", Verdict.PROBLEM, found, "a full Redis throws messages away: set it to noeviction")

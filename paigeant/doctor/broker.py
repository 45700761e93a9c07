"""How the broker is set up, and what that means for the promise: read, never changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from paigeant.activity import Activity
from paigeant.doctor.finding import Finding, Verdict
from paigeant.transport import BaseTransport, Features
from paigeant.urls import is_database_url
from paigeant.worker.caveats import outlasting

_MOST_SKEW = 1.0
_OLDEST_SQLITE = (3, 35)
_OLDEST_RABBITMQ = (3, 8)


async def settings_of(transport: BaseTransport, activities: Iterable[Activity[..., Any]]) -> list[Finding]:
    """What the broker tells about itself; whatever it refuses to tell is a finding, too."""
    url = transport.url
    try:
        if is_database_url(url):
            return await asyncio.to_thread(_database, url)
        if url.startswith(("redis://", "rediss://", "sentinel://")):
            return await asyncio.to_thread(_redis, url)
        if url.startswith(("amqp://", "amqps://", "pyamqp://")):
            about = await cast("Any", transport).call_in_thread(lambda pump: pump.about())
            return [rabbitmq(about), consumer_timeout(transport.features, activities)]
    except Exception as error:  # noqa: BLE001 - a server's refusal is told, not raised
        return [Finding("settings", Verdict.WARN, f"the broker does not tell: {type(error).__name__}")]
    return []


def clock(server: str, seconds: float) -> Finding:
    """How far the server's clock is from ours."""
    found = f"this machine and {server} differ by {abs(seconds):.2f} s"
    if abs(seconds) > _MOST_SKEW:
        return Finding("clock", Verdict.WARN, found, "leases go by the server's clock; times in the history do not")
    return Finding("clock", Verdict.OK, found)


def _skew(ask: Callable[[], float]) -> float:
    before = time.time()
    theirs = ask()
    return theirs - (before + time.time()) / 2


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version."""
    parts = version.split(".")
    return tuple(int(part) for part in parts[:2] if part.isdecimal())


# --- SQL -------------------------------------------------------------------------------------------------------------


def _database(url: str) -> list[Finding]:
    from paigeant.database import Database

    database = Database(url)
    if database.in_memory:
        return []
    with database.reader() as reader:

        def ask(statement: str) -> Any:
            return reader.exec_driver_sql(statement).scalar_one()

        if database.is_sqlite:
            return [sqlite(ask("SELECT sqlite_version()"), ask("PRAGMA journal_mode"))]
        names = ("server_version", "synchronous_commit", "fsync")
        skew = _skew(lambda: float(ask("SELECT extract(epoch FROM clock_timestamp())")))
        return [postgresql({name: ask(f"SHOW {name}") for name in names}), clock("PostgreSQL", skew)]


def sqlite(version: str, journal: str) -> Finding:
    """Its version and its journal."""
    found = f"SQLite {version}, journal mode {journal}"
    if _numbers(version) < _OLDEST_SQLITE:
        return Finding("settings", Verdict.FAIL, found, "paigeant needs SQLite 3.35: use a newer Python build")
    if journal != "wal":
        advice = "the file must be on a local disk: network file systems cannot share a write-ahead log"
        return Finding("settings", Verdict.WARN, found, advice)
    return Finding("settings", Verdict.OK, found)


def postgresql(told: Mapping[str, str]) -> Finding:
    """Whether a commit is on the disk before it counts."""
    found = "PostgreSQL {server_version}, synchronous_commit {synchronous_commit}, fsync {fsync}".format(**told)
    if told["fsync"] == "off":
        return Finding("settings", Verdict.WARN, found, "a power cut can destroy the database: set fsync to on")
    if told["synchronous_commit"] == "off":
        return Finding("settings", Verdict.WARN, found, "a crash of the server loses the last commits: set it to on")
    return Finding("settings", Verdict.OK, found)


# --- Redis -----------------------------------------------------------------------------------------------------------


def _redis(url: str) -> list[Finding]:
    import redis

    from paigeant.transports.redis_client import connect

    client = connect(url)
    info = client.info()
    try:
        told: Mapping[Any, Any] = client.config_get("append*") | client.config_get("save")
    except redis.exceptions.RedisError:  # hosted servers do not tell
        told = {}

    def ask() -> float:
        seconds, microseconds = client.time()
        return seconds + microseconds / 1e6

    return [persistence(info, told), eviction(info), clock("Redis", _skew(ask))]


def persistence(info: Mapping[str, Any], told: Mapping[str, str]) -> Finding:
    """What is left of the messages when Redis or its machine stops."""
    found = f"Redis {info['redis_version']}, appendonly {'yes' if info['aof_enabled'] else 'no'}"
    if not info["aof_enabled"]:
        found += f", save {told['save'] or 'never'}" if "save" in told else ""
        loss = "everything" if told.get("save") == "" else "what came after the last snapshot"
        return Finding("persistence", Verdict.WARN, found, f"a restart loses {loss}: set appendonly to yes")
    sync = told.get("appendfsync", "not told")
    means = {
        "always": "nothing that was confirmed is lost",
        "everysec": "a power cut loses up to a second, a crash of Redis nothing",
        "no": "a power cut loses what the system had not written, a crash of Redis nothing",
    }
    return Finding("persistence", Verdict.OK, f"{found}, appendfsync {sync}" + _because(means.get(sync)))


def _because(meaning: str | None) -> str:
    return f": {meaning}" if meaning else ""


def eviction(info: Mapping[str, Any]) -> Finding:
    """Whether a full Redis throws messages away."""
    policy = info.get("maxmemory_policy", "unknown")
    found = f"maxmemory-policy {policy}"
    if policy == "noeviction" or not info.get("maxmemory"):
        return Finding("eviction", Verdict.OK, found)
    return Finding("eviction", Verdict.FAIL, found, "a full Redis throws messages away: set it to noeviction")


# --- RabbitMQ --------------------------------------------------------------------------------------------------------


def rabbitmq(about: Mapping[str, Any]) -> Finding:
    """Its version and whether it confirms, as its greeting says."""
    version = str(about.get("version", "of unknown version"))
    confirms = bool(about.get("capabilities", {}).get("publisher_confirms"))
    found = f"{about.get('product', 'AMQP')} {version}, publisher confirms {'yes' if confirms else 'no'}"
    if not confirms:
        advice = "what is published can be lost without a word: use RabbitMQ 3.8 or later"
        return Finding("settings", Verdict.FAIL, found, advice)
    if _numbers(version) < _OLDEST_RABBITMQ:
        return Finding("settings", Verdict.FAIL, found, "paigeant needs quorum queues: use RabbitMQ 3.8 or later")
    return Finding("settings", Verdict.OK, found)


def consumer_timeout(features: Features, activities: Iterable[Activity[..., Any]]) -> Finding:
    """Whether RabbitMQ waits for an acknowledgement as long as the longest step takes. AMQP does not tell how long."""
    if features.longest_hold is None:
        return Finding("consumer timeout", Verdict.OK, "switched off, as the URL says")
    found = f"{features.longest_hold / 60:g} minutes, the default or what the URL says: AMQP does not tell it"
    if too_long := outlasting(features, activities):
        advice = "set consumer_timeout in rabbitmq.conf above the longest timeout, and say it in the URL"
        return Finding("consumer timeout", Verdict.WARN, f"{found}; {too_long} may run longer", advice)
    return Finding("consumer timeout", Verdict.OK, found)

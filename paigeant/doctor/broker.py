"""Reads the broker's configuration and explains its effect on durability. Nothing is changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from paigeant.activity import Activity
from paigeant.doctor.finding import Finding, Verdict
from paigeant.runtime.urls import is_database_url
from paigeant.transport import BaseTransport, Features
from paigeant.worker.caveats import limited, outlasting

_MOST_SKEW = 1.0
_OLDEST_SQLITE = (3, 35)
_OLD = 600.0
"""Age in seconds from which a snapshot slows down claims."""
_OLDEST_SNAPSHOT = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - began)), 0) FROM (
    SELECT xact_start AS began FROM pg_stat_activity
    WHERE datname = current_database() AND backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
    UNION ALL SELECT prepared FROM pg_prepared_xacts WHERE database = current_database()
) AS snapshots
"""
_OLDEST_RABBITMQ = (3, 8)
_RABBITMQ = ("amqp://", "amqps://", "pyamqp://")
_OLDEST_REDIS = (6, 2)
_REDIS = ("redis://", "rediss://", "sentinel://", "unix://", "redis+socket://")


async def settings_of(transport: BaseTransport, activities: Iterable[Activity[..., Any]]) -> list[Finding]:
    """Return findings about the broker's configuration. If the broker does not reveal it, that is a finding, too."""
    url = transport.url
    try:
        if is_database_url(url):
            return await asyncio.to_thread(_database, url)
        if url.startswith(_REDIS):
            return await asyncio.to_thread(_redis, url)
        if url.startswith(_RABBITMQ):
            about = await cast("Any", transport).call_in_thread(lambda pump: pump.about())
            return [rabbitmq(about), consumer_timeout(transport.features, activities)]
    except Exception as error:  # noqa: BLE001 - a server's refusal is a finding
        return [Finding("settings", Verdict.WARN, f"the broker does not reveal its settings: {type(error).__name__}")]
    return []


def clock(server: str, seconds: float) -> Finding:
    """Report the difference between the server's clock and this machine's clock."""
    found = f"this machine and {server} differ by {abs(seconds):.2f} s"
    if abs(seconds) > _MOST_SKEW:
        advice = f"leases and timers use the clock of {server}: correct the clock that is wrong"
        return Finding("clock", Verdict.WARN, found, advice)
    return Finding("clock", Verdict.OK, found)


def _skew(ask: Callable[[], float]) -> float:
    before = time.time()
    theirs = ask()
    return theirs - (before + time.time()) / 2


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version."""
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

        database.synchronise(reader)
        if database.is_sqlite:
            found = [sqlite(ask("SELECT sqlite_version()"), ask("PRAGMA journal_mode"))]
            return [*found, place(database.file_system), stepped(database.now() - time.time())]
        names = ("server_version", "synchronous_commit", "fsync")
        skew = _skew(lambda: float(ask("SELECT extract(epoch FROM clock_timestamp())")))
        told = {name: ask(f"SHOW {name}") for name in names}
        found = [postgresql(told), clock("PostgreSQL", skew), snapshots(float(ask(_OLDEST_SNAPSHOT)))]
        return [*found, *pooler(is_pooled=database.is_pooled(reader))]


def sqlite(version: str, journal: str) -> Finding:
    """Check SQLite's version and journal mode."""
    found = f"SQLite {version}, journal mode {journal}"
    if _numbers(version) < _OLDEST_SQLITE:
        return Finding("settings", Verdict.FAIL, found, "paigeant needs SQLite 3.35: use a newer Python build")
    if journal != "wal":
        advice = "the file must be on a local disk: network file systems cannot share a write-ahead log"
        return Finding("settings", Verdict.WARN, found, advice)
    return Finding("settings", Verdict.OK, found)


def place(file_system: str | None) -> Finding:
    """Check whether the file is on a local disk."""
    if file_system is None:
        return Finding("disk", Verdict.OK, "the file is not on a network file system")
    advice = "SQLite can lose or damage data when two machines use it: use a local disk, or PostgreSQL"
    return Finding("disk", Verdict.WARN, f"the file is on a network file system ({file_system})", advice)


def stepped(seconds: float) -> Finding:
    """Report the difference between a SQLite file's time and the machine's clock, if the clock was changed."""
    found = f"the time of the file and this machine's clock differ by {abs(seconds):.2f} s"
    if abs(seconds) > _MOST_SKEW:
        advice = (
            "the clock was changed after the file's first use since the machine started, and schedules use the old "
            "time: stop all processes that use the file, then run: sqlite3 FILE 'DELETE FROM paigeant_clock'"
        )
        return Finding("clock", Verdict.WARN, found, advice)
    return Finding("clock", Verdict.OK, found)


def pooler(*, is_pooled: bool) -> list[Finding]:
    """Check whether a connection pooler is between this process and the server."""
    if not is_pooled:
        return []
    advice = "in transaction mode no notifications arrive, so idle workers poll: let workers connect directly"
    return [Finding("pooler", Verdict.WARN, "the URL leads to a connection pooler", advice)]


def postgresql(told: Mapping[str, str]) -> Finding:
    """Check whether PostgreSQL writes a commit to disk before it confirms it."""
    found = "PostgreSQL {server_version}, synchronous_commit {synchronous_commit}, fsync {fsync}".format(**told)
    if told["fsync"] == "off":
        return Finding("settings", Verdict.WARN, found, "a power cut can destroy the database: set fsync to on")
    if told["synchronous_commit"] == "off":
        return Finding("settings", Verdict.WARN, found, "a crash of the server loses the last commits: set it to on")
    return Finding("settings", Verdict.OK, found)


def snapshots(seconds: float) -> Finding:
    """Report for how long the oldest open snapshot has prevented PostgreSQL from removing dead rows.

    A role without ``pg_read_all_stats`` sees only its own transactions.
    """
    found = f"the oldest snapshot of this database is {seconds:.0f} s old"
    if seconds > _OLD:
        advice = "dead rows accumulate and claims become slower: find the transaction in pg_stat_activity and end it"
        return Finding("snapshots", Verdict.WARN, found, advice)
    return Finding("snapshots", Verdict.OK, found)


# --- Redis -----------------------------------------------------------------------------------------------------------


def _redis(url: str) -> list[Finding]:
    import redis

    from paigeant.transports.redis.client import connect
    from paigeant.transports.redis.rights import missing

    client = connect(url)
    lacking = rights(missing(client, "paigeant:"))
    if lacking.verdict is not Verdict.OK:
        return [lacking]
    info = client.info()
    try:
        told: Mapping[Any, Any] = client.config_get("append*") | client.config_get("save")
    except redis.exceptions.RedisError:  # hosted servers forbid the command
        told = {}

    def ask() -> float:
        seconds, microseconds = client.time()
        return seconds + microseconds / 1e6

    return [lacking, persistence(info, told), eviction(info), clock("Redis", _skew(ask))]


def rights(lacking: Sequence[str]) -> Finding:
    """Check whether the user may run the commands of a worker; ``lacking`` lists missing rights in ACL syntax."""
    if not lacking:
        return Finding("rights", Verdict.OK, "the user may run every command that a worker needs")
    found = f"the user lacks {' '.join(lacking)}"
    advice = (
        f"ACL SETUSER <user> {' '.join(lacking)}; a process that only dispatches needs less: see the how-to on Redis"
    )
    return Finding("rights", Verdict.FAIL, found, advice)


def persistence(info: Mapping[str, Any], told: Mapping[str, str]) -> Finding:
    """Report which messages survive when Redis or its machine stops."""
    found = f"Redis {info['redis_version']}, appendonly {'yes' if info['aof_enabled'] else 'no'}"
    if _numbers(str(info["redis_version"])) < _OLDEST_REDIS:
        return Finding("persistence", Verdict.FAIL, found, "paigeant needs Redis 6.2 or later")
    if not info["aof_enabled"]:
        found += f", save {told['save'] or 'never'}" if "save" in told else ""
        loss = "everything" if told.get("save") == "" else "everything since the last snapshot"
        return Finding("persistence", Verdict.WARN, found, f"a restart loses {loss}: set appendonly to yes")
    sync = told.get("appendfsync", "not told")
    means = {
        "always": "no confirmed message is lost",
        "everysec": "a power cut loses up to one second of messages, a crash of Redis none",
        "no": "a power cut loses messages that the system had not written to disk, a crash of Redis none",
    }
    return Finding("persistence", Verdict.OK, f"{found}, appendfsync {sync}" + _because(means.get(sync)))


def _because(meaning: str | None) -> str:
    return f": {meaning}" if meaning else ""


def eviction(info: Mapping[str, Any]) -> Finding:
    """Check whether a full Redis evicts messages."""
    policy = info.get("maxmemory_policy", "unknown")
    found = f"maxmemory-policy {policy}"
    if policy == "noeviction" or not info.get("maxmemory"):
        return Finding("eviction", Verdict.OK, found)
    return Finding("eviction", Verdict.FAIL, found, "a full Redis evicts messages: set maxmemory-policy to noeviction")


# --- RabbitMQ --------------------------------------------------------------------------------------------------------


def rabbitmq(about: Mapping[str, Any]) -> Finding:
    """Check RabbitMQ's version and publisher confirms, as its greeting reports them."""
    version = str(about.get("version", "of unknown version"))
    confirms = bool(about.get("capabilities", {}).get("publisher_confirms"))
    found = f"{about.get('product', 'AMQP')} {version}, publisher confirms {'yes' if confirms else 'no'}"
    if not confirms:
        advice = "published messages can be lost without an error: use RabbitMQ 3.8 or later"
        return Finding("settings", Verdict.FAIL, found, advice)
    if _numbers(version) < _OLDEST_RABBITMQ:
        return Finding("settings", Verdict.FAIL, found, "paigeant needs quorum queues: use RabbitMQ 3.8 or later")
    return Finding("settings", Verdict.OK, found)


async def delivery_limit(transport: BaseTransport, prefix: str, max_deliveries: int) -> list[Finding]:
    """Test whether RabbitMQ drops a message after too many deliveries. Returns nothing for other brokers."""
    if not transport.url.startswith(_RABBITMQ):
        return []
    limit = await transport.delivery_limit(prefix)
    if limit is None:
        return [Finding("delivery limit", Verdict.OK, "no delivery-limit was found: RabbitMQ drops no message for it")]
    return [Finding("delivery limit", Verdict.WARN, limited(limit, max_deliveries))]


def consumer_timeout(features: Features, activities: Iterable[Activity[..., Any]]) -> Finding:
    """Check whether RabbitMQ waits long enough for the acknowledgement of the longest step.

    AMQP does not report RabbitMQ's ``consumer_timeout``, so the check uses the default, or the value in the URL.
    """
    if features.longest_hold is None:
        return Finding("consumer timeout", Verdict.OK, "switched off, as the URL says")
    found = f"{features.longest_hold / 60:g} minutes, the default or what the URL says: AMQP does not tell it"
    if too_long := outlasting(features, activities):
        advice = "set consumer_timeout in rabbitmq.conf above the longest timeout, and add it to the URL"
        return Finding("consumer timeout", Verdict.WARN, f"{found}; {too_long} may run longer", advice)
    return Finding("consumer timeout", Verdict.OK, found)

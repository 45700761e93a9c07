"""``paigeant doctor``: what it looks at, what it measures, and what it says of it."""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from brokers.servers import RedisServer
from conftest import CI
from helpers import until

from paigeant.activity import Activity
from paigeant.doctor import Verdict, broker, checks
from paigeant.doctor.bench import Bench
from paigeant.doctor.prove import _Series
from paigeant.doctor.tier import Measured, Tier, compared, declared_tier, measured_tier
from paigeant.errors import Superseded, TransportError
from paigeant.records.workflow import WorkerRecord
from paigeant.transport import Delivery, Durability, Features

ROOT = Path(__file__).parents[2]

PATIENCE = 150.0
"""Seconds that measuring may take on a busy machine; a quiet one needs ten."""

# --- the command -----------------------------------------------------------------------------------------------------


def test_a_new_folder_is_in_good_health(terminal):
    """Everything is ok on the embedded default, and each finding is one line."""
    there = {*terminal.folder.iterdir()}
    done = terminal.run("doctor")

    assert "round trip: published, received and settled in" in done.stdout
    assert all(line.startswith("ok") for line in done.stdout.splitlines())
    assert "database: there is no paigeant.db yet" in done.stdout
    assert {*terminal.folder.iterdir()} == there


def test_files_that_other_users_can_read_are_named(terminal):
    """Those of an earlier release, with what to type."""
    terminal.ask(lambda app: app.connect())
    (terminal.folder / "paigeant.db").chmod(0o644)
    (terminal.folder / "values").mkdir()
    (terminal.folder / "values").chmod(0o755)
    found = terminal.run("doctor", PAIGEANT_CLAIM_CHECK=f"file://{terminal.folder}/values").stdout

    assert "warn  files: other users of this machine may use paigeant.db (mode 0644), " in found
    assert "chmod 600 paigeant.db " in found
    assert f"; chmod 700 {terminal.folder}/values" in found


def test_settings_of_this_folder_are_named(terminal):
    """A file here can name the broker and the keys."""
    (terminal.folder / ".env").write_text("PAIGEANT_BROKER_URL=sqlite:///other.db\nOTHER=1\n")
    (terminal.folder / "pyproject.toml").write_text("[tool.paigeant]\napp = 'work'\nobo_issuer = 'x'\n")
    found = terminal.run("doctor").stdout

    assert "ok    sources: broker_url from .env; app, obo_issuer from pyproject.toml" in found


def test_an_unreachable_broker_is_a_failure(terminal):
    """The exit code says so, and the finding says what to do."""
    done = terminal.run("doctor", "--json", "-b", "amqp://127.0.0.1:1", code=69)
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["checks"]}

    assert found["broker"]["verdict"] == "fail"
    assert "nothing answers there" in found["broker"]["advice"]


def test_a_volatile_broker_is_a_warning(terminal):
    """Nobody should learn it from a restart."""
    done = terminal.run("doctor", "-b", "memory://")

    assert "warn " in done.stdout


def test_rabbitmq_tells_its_version_and_that_it_confirms(terminal, rabbitmq_url):
    """By its greeting; what AMQP does not tell is said to be so."""
    found = terminal.json("doctor", "--json", "-b", rabbitmq_url)["checks"]
    settings = next(finding for finding in found if finding["name"] == "settings")

    assert settings["verdict"] == "ok"
    assert settings["found"].startswith("RabbitMQ ")
    assert "publisher confirms yes" in settings["found"]


# --- measuring -------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_redis_url(tmp_path: Path) -> Iterator[str]:
    """kombu's own transport over Redis, on a server of its own: what it loses cannot be cleared up."""
    if not RedisServer.is_installed:
        (pytest.fail if CI else pytest.skip)("redis-server is not installed here")
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield f"kombu+{server.url}"
    server.close()


@pytest.fixture
def measured(terminal, request):
    """Measures on the broker of a fixture, or on a URL, with a short lease; findings by their name."""

    def queues(url: str, settings: dict[str, str]) -> set[str]:
        """Of a server that others may use as well."""
        return {one["queue"] for one in json.loads(terminal.run("queues", "--json", "-b", url, **settings).stdout)}

    def measure(url: str, code: int = 0) -> dict[str, dict[str, str]]:
        url = request.getfixturevalue(url) if url.endswith("_url") else url
        command = [*["doctor", "--prove", "--lease", "1", "--json", "-b"], url]
        weak = {"PAIGEANT_DURABILITY": "best_effort"}
        before = queues(url, weak)
        proof = json.loads(terminal.run(*command, code=code, patience=PATIENCE, **weak).stdout)["proof"]
        print(json.dumps(proof, indent=1))
        left = queues(url, weak) - before
        assert [name for name in left if name.startswith("paigeant-doctor")] == []
        return {one["name"]: one for one in proof}

    return measure


@pytest.mark.parametrize(
    ("url", "tier"),
    [
        ("sqlite:///queue.db", "atomic with the store, as declared"),
        pytest.param("postgres_url", "atomic with the store, as declared", marks=pytest.mark.endurance),
        pytest.param("redis_url", "fenced, as declared", marks=pytest.mark.slow),
        pytest.param("rabbitmq_url", "at least once, as declared", marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(2 * PATIENCE)
def test_a_durable_broker_keeps_what_its_transport_declares(measured, url, tier):
    """Killed, cut, stopped: nothing fails, and what was declared was seen."""
    found = measured(url)

    assert [one["name"] for one in found.values() if one["verdict"] == "fail"] == []
    assert found["tier"]["found"] == tier
    assert "was redelivered after" in found["crash"]["found"]
    assert "clearing up" not in found


@pytest.mark.parametrize(
    ("url", "crash", "tier"),
    [
        ("memory://", "another process never saw the message", "one process, as declared"),
        pytest.param("own_redis_url", "was not redelivered", "best effort, as declared", marks=pytest.mark.endurance),
    ],
)
@pytest.mark.timeout(2 * PATIENCE)
def test_a_weak_broker_is_measured_as_weak(measured, url, crash, tier):
    """It is as bad as it declares: a warning that says what was lost."""
    found = measured(url)

    assert crash in found["crash"]["found"]
    assert (found["crash"]["verdict"], found["tier"]["verdict"]) == ("warn", "warn")
    assert found["tier"]["found"] == tier


def test_a_broker_that_is_not_there_proves_nothing(terminal):
    """One failure, at once."""
    done = terminal.run("doctor", "--prove", "--json", "-b", "redis://127.0.0.1:1/0", code=69)

    assert [one["name"] for one in json.loads(done.stdout)["proof"]] == ["broker"]


# --- what is made of what was seen -----------------------------------------------------------------------------------

SQL = Features(durability=Durability.TRANSACTIONAL, fenced=True, joins_store=True)


@pytest.mark.parametrize(
    ("features", "tier"),
    [
        (SQL, Tier.ATOMIC),
        (Features(durability=Durability.TRANSACTIONAL, fenced=True), Tier.FENCED),
        (Features(durability=Durability.AT_LEAST_ONCE), Tier.AT_LEAST_ONCE),
        (Features(durability=Durability.BEST_EFFORT), Tier.BEST_EFFORT),
        (Features(durability=Durability.VOLATILE), Tier.ONE_PROCESS),
    ],
)
def test_the_tier_that_is_declared(features, tier):
    """By durability first."""
    assert declared_tier(features) is tier


GOOD = {"is_shared": True, "comes_again": True, "is_fenced": True, "is_atomic": True}


@pytest.mark.parametrize(
    ("seen", "tier"),
    [
        ({}, Tier.ATOMIC),
        ({"is_atomic": None}, Tier.FENCED),
        ({"is_fenced": False}, Tier.AT_LEAST_ONCE),
        ({"is_fenced": None}, Tier.AT_LEAST_ONCE),
        ({"loses": True}, Tier.BEST_EFFORT),
        ({"comes_again": False}, Tier.BEST_EFFORT),
        ({"comes_again": None}, Tier.BEST_EFFORT),
        ({"is_shared": False}, Tier.ONE_PROCESS),
    ],
)
def test_the_tier_that_was_measured(seen, tier):
    """What could not be measured supports nothing."""
    assert measured_tier(Measured(**GOOD | seen)) is tier


def test_tiers_have_an_order():
    """The best first; none is worse than itself."""
    assert Tier.BEST_EFFORT.is_worse_than(Tier.FENCED)
    assert not Tier.ATOMIC.is_worse_than(Tier.FENCED)
    assert not Tier.FENCED.is_worse_than(Tier.FENCED)


@pytest.mark.parametrize(
    ("url", "seen", "verdict", "found"),
    [
        ("amqp://nobody", {}, Verdict.OK, "at least once, as declared"),
        ("amqp://nobody", {"loses": True}, Verdict.FAIL, "best effort; declared is at least once"),
        ("redis://nobody", {}, Verdict.OK, "fenced, as declared"),
        ("redis://nobody", {"is_fenced": False}, Verdict.FAIL, "at least once; declared is fenced"),
        ("memory://", {}, Verdict.WARN, "one process, as declared"),
    ],
)
def test_experiments_refute_and_never_prove(url, seen, verdict, found):
    """A stale holder that was refused may have noticed in time, so no tier is better than the declared one."""
    finding = _Series(Bench(url, 1.0, measured=Measured(**GOOD | seen))).tier()

    assert (finding.verdict, finding.found) == (verdict, found)


def test_a_message_whose_lease_was_lost_meanwhile_counts_once(tmp_path, monkeypatch):
    """A machine that stands still for longer than a lease makes no duplicates of its own."""

    async def drained() -> list[str]:
        bench = Bench(f"sqlite:///{tmp_path}/queue.db", 1.0)
        settle, lost = bench.here.settle, []

        async def settle_late(delivery: Delivery, *rest: object) -> None:
            if not lost:
                lost.append(delivery)
                await bench.here.release(delivery)
                raise Superseded("somebody else has it")
            await settle(delivery, *rest)

        monkeypatch.setattr(bench.here, "settle", settle_late)
        queue = bench.queue("q")
        await bench.send(queue, "m")
        names = await bench.drain(queue)
        await bench.clear_up()
        assert lost
        return names

    assert asyncio.run(drained()) == ["m"]


def test_what_is_declared_and_not_there_is_a_failure():
    """More than is declared is not."""
    verdicts = {(declared, there): compared(declared, there) for declared in (True, False) for there in (True, False)}

    assert [pair for pair, verdict in verdicts.items() if verdict is Verdict.FAIL] == [(True, False)]


def test_what_several_experiments_saw_is_put_together():
    """A loss seen once is not forgotten."""
    first, later = Measured(is_shared=True, deliveries=2), Measured(is_fenced=True, loses=True)
    first.adopt(later)
    first.adopt(Measured(is_atomic=False))

    assert first == Measured(is_shared=True, deliveries=2, is_fenced=True, is_atomic=False, loses=True)


# --- what is made of what a broker tells -----------------------------------------------------------------------------


def _redis(**info: object) -> dict[str, object]:
    return {"redis_version": "7.0.15", "aof_enabled": 1, "maxmemory_policy": "noeviction", "maxmemory": 1} | info


@pytest.mark.parametrize(
    ("info", "told", "verdict", "says"),
    [
        ({}, {"appendfsync": "always"}, Verdict.OK, "no confirmed message is lost"),
        ({}, {"appendfsync": "everysec"}, Verdict.OK, "up to one second"),
        ({}, {}, Verdict.OK, "appendfsync not told"),
        ({"aof_enabled": 0}, {"save": ""}, Verdict.WARN, "a restart loses everything"),
        ({"aof_enabled": 0}, {"save": "3600 1"}, Verdict.WARN, "since the last snapshot"),
        ({"aof_enabled": 0}, {}, Verdict.WARN, "set appendonly to yes"),
    ],
)
def test_what_a_redis_loses_in_a_restart_is_said(info, told, verdict, says):
    """By its append-only file, and how often that is written."""
    finding = broker.persistence(_redis(**info), told)

    assert finding.verdict is verdict
    assert says in f"{finding.found} {finding.advice}"


@pytest.mark.parametrize(
    ("info", "verdict"),
    [
        ({}, Verdict.OK),
        ({"maxmemory_policy": "allkeys-lru"}, Verdict.FAIL),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 0}, Verdict.OK),
    ],
)
def test_a_redis_that_throws_messages_away_is_a_failure(info, verdict):
    """Only one that has a limit does."""
    assert broker.eviction(_redis(**info)).verdict is verdict


RABBITMQ = {"product": "RabbitMQ", "version": "3.13.1", "capabilities": {"publisher_confirms": True}}


@pytest.mark.parametrize(
    ("about", "verdict"),
    [
        (RABBITMQ, "ok"),
        (RABBITMQ | {"version": "4.0.2"}, "ok"),
        (RABBITMQ | {"version": "3.7.8"}, "fail"),
        (RABBITMQ | {"capabilities": {}}, "fail"),
        ({}, "fail"),
    ],
)
def test_a_rabbitmq_must_confirm_and_have_quorum_queues(about, verdict):
    """As its greeting says."""
    assert broker.rabbitmq(about).verdict == verdict


@pytest.mark.parametrize(
    ("limit", "timeouts", "verdict"),
    [
        (1800.0, [None, 60.0], "ok"),
        (1800.0, [60.0, 7200.0], "warn"),
        (10_000.0, [7200.0], "ok"),
        (None, [7200.0], "ok"),
    ],
)
def test_a_rabbitmq_must_wait_longer_than_the_longest_step(limit, timeouts, verdict):
    """Its default, or what the URL says; the activity is named."""
    features = Features(durability=Durability.AT_LEAST_ONCE, longest_hold=limit)
    activities = [Activity(lambda: None, name=f"act-{timeout}", timeout=timeout) for timeout in timeouts]
    found = broker.consumer_timeout(features, activities)

    assert found.verdict == verdict
    assert ("'act-7200.0'" in found.found) == (verdict == "warn")


@pytest.mark.parametrize(("limit", "verdict"), [(None, "ok"), (20, "ok"), (11, "fail")])
def test_names_longer_than_the_broker_takes_are_a_failure(limit, verdict):
    """Bytes count, not letters."""
    assert checks.names(limit, ["app.step", "app.ünïcöde"]).verdict == verdict


@pytest.mark.parametrize(
    ("finding", "verdict"),
    [
        (broker.sqlite("3.40.1", "wal"), Verdict.OK),
        (broker.sqlite("3.40.1", "delete"), Verdict.WARN),
        (broker.sqlite("3.34.0", "wal"), Verdict.FAIL),
        (broker.place(None), Verdict.OK),
        (broker.place("nfs4"), Verdict.WARN),
        (broker.stepped(0.1), Verdict.OK),
        (broker.stepped(-3600.0), Verdict.WARN),
        (broker.pooler(is_pooled=True)[0], Verdict.WARN),
        (broker.postgresql({"server_version": "15.1", "synchronous_commit": "on", "fsync": "on"}), Verdict.OK),
        (broker.postgresql({"server_version": "15.1", "synchronous_commit": "off", "fsync": "on"}), Verdict.WARN),
        (broker.postgresql({"server_version": "15.1", "synchronous_commit": "on", "fsync": "off"}), Verdict.WARN),
        (broker.snapshots(0.0), Verdict.OK),
        (broker.snapshots(7200.0), Verdict.WARN),
        (broker.clock("Redis", 0.2), Verdict.OK),
        (broker.clock("Redis", -3.0), Verdict.WARN),
    ],
)
def test_databases_and_clocks(finding, verdict):
    """A lost commit is a lost message; the history goes by the machine's clock."""
    assert finding.verdict is verdict


def test_the_oldest_snapshot_of_a_database_is_told(postgres_url):
    """In seconds, of a transaction that reads and does not end."""
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres_url) as report:
        report.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        report.execute("SELECT 1")
        until(lambda: broker._database(postgres_url)[2].found != broker.snapshots(0.0).found)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("cannot use the broker: [Errno 111] Connection refused", "is it running"),
        ("cannot use the broker: (403) ACCESS_REFUSED - Login was refused", "refuses the login"),
        ("cannot use the broker: WRONGPASS invalid username-password pair", "refuses the login"),
        ('cannot use the broker: password authentication failed for user "x"', "refuses the login"),
        ("cannot use the broker: [Errno -2] Name or service not known", "no machine with this name"),
        ("cannot use the broker: something else", "the general hint"),
    ],
)
def test_what_to_do_depends_on_what_was_said(said, advice):
    """A wrong password is not a server that is down."""
    assert advice in str(checks.advice_for(TransportError(said, hint="the general hint")))


def _worker(app: str, code: str) -> WorkerRecord:
    about = {"host": "h", "pid": 1, "activities": (), "queues": (), "concurrency": 1, "started_at": 1.0, "seen_at": 1.0}
    return WorkerRecord(id=f"{app}-{code}", app=app, code=code, **about)


def test_workers_of_one_app_that_run_different_code_are_a_warning():
    """Another App's code is its own; who does not say is left out."""
    workers = [_worker("shop", "aaa"), _worker("shop", "aaa"), _worker("shop", ""), _worker("mail", "bbb")]
    same, mixed = checks.code_of(workers), checks.code_of([*workers, _worker("shop", "ccc")])

    assert [finding.verdict for finding in same] == ["ok", "ok"]
    assert [finding.verdict for finding in mixed] == ["ok", "warn"]
    assert "2 versions: aaa (2), ccc (1)" in mixed[1].found


def test_every_extra_is_looked_for():
    """The list in the code is that of the package, without the extra that builds the documentation."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    assert set(checks.EXTRAS) == set(declared) - {"docs"}

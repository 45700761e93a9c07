"""Ten minutes of steady work of every kind: what workers and servers use stays flat."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from brokers.samples import MB, Samples, of_process
from brokers.servers import RabbitServer, RedisServer
from crash import mixed
from crash.conductor import Conductor
from crash.fleet import Fleet
from crash.ledger import LEDGER
from crash.verdict import Verdict

SECONDS = float(os.environ.get("PAIGEANT_TEST_SOAK", "600"))
EVERY = SECONDS / 120
PACE = 0.5
"""Seconds between two workflows."""

KEPT = 60.0
"""Seconds for which workflows are kept that have ended: the tables do not grow for ever."""

BOUNDS = {
    " memory": 8 * MB,
    " files": 3,
    " threads": 4,
    "write-ahead log": 4 * MB,
    "dead rows": 10_000,
    "database": 20 * MB,
    "redis bytes": 2 * MB,
    "redis keys": 200,
    "queues": 20,
}
"""How much each may grow after the warm-up, which is noise: a leak grows with every workflow."""


# --- the judge -----------------------------------------------------------------------------------------------------


def series(*values: float) -> Samples:
    samples = Samples()
    for at, value in enumerate(values):
        samples.add({"worker 0 files": value}, at=float(at))
    return samples


def test_what_grows_is_found() -> None:
    assert series(*range(100)).growing(BOUNDS) == {"worker 0 files": pytest.approx(59)}


@pytest.mark.parametrize("values", [[20.0] * 100, [*range(30), *[30] * 70], [20.0, 24.0] * 50, [*range(100, 0, -1)]])
def test_what_is_flat_is_not(values: list[float]) -> None:
    """What grows in the warm-up, goes up and down, or shrinks."""
    assert series(*values).growing(BOUNDS) == {}


# --- the soak ------------------------------------------------------------------------------------------------------


Probe = Callable[[Conductor], dict[str, float]]


def database(conductor: Conductor) -> dict[str, float]:
    """Dead rows and bytes of PostgreSQL, after what autovacuum does, which is off on some machines.

    A snapshot that somebody holds for long would keep dead rows from being removed.
    """
    conductor.watch.vacuum()
    dead = conductor.watch.rows("SELECT sum(n_dead_tup) FROM pg_stat_user_tables")
    size = conductor.watch.rows("SELECT pg_database_size(current_database())")
    return {"dead rows": float(dead[0][0] or 0), "database": float(size[0][0])} if dead and size else {}


def log_of(file: Path) -> Probe:
    return lambda _: {"write-ahead log": float(file.stat().st_size if file.exists() else 0)}


def memory_of(server: RedisServer) -> Probe:
    import redis

    def probe(_: Conductor) -> dict[str, float]:
        with redis.Redis(port=server.port) as client:
            return {"redis bytes": float(client.info("memory")["used_memory"]), "redis keys": float(client.dbsize())}

    return probe


def queues_of(server: RabbitServer) -> Probe:
    return lambda _: {"queues": float(len(server.control("list_queues", "--silent", "name").split()))}


@pytest.fixture(params=["sqlite", "postgres", "redis", "rabbitmq"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str | None, list[Probe]]:
    """Broker, store, and what is looked at beside the workers."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/paigeant.db", None, [log_of(tmp_path / "paigeant.db-wal")]
    store = str(request.getfixturevalue("postgres_url"))
    if request.param == "postgres":
        return store, None, [database]
    server = request.getfixturevalue(f"own_{request.param}")
    return server.url, store, [database, (memory_of if request.param == "redis" else queues_of)(server)]


@pytest.mark.endurance
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(2 * SECONDS + 120)
def test_ten_minutes_of_steady_work_leave_nothing_behind(
    make_fleet: Callable[..., Fleet],
    place: tuple[str, str | None, list[Probe]],
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Memory, open files, threads, logs, dead rows, keys and queues; and nothing is lost meanwhile."""
    broker, store, probes = place
    fleet = make_fleet(broker, store, app_name=prefix, lease=10.0, service=mixed)
    monkeypatch.setenv(LEDGER, str(fleet.ledger))
    fleet.settings = {"CRASH_CONCURRENCY": "10", "PAIGEANT_RETENTION": str(KEPT)}
    for process in [fleet.start(), fleet.start()]:
        process.ready()
    conductor = Conductor(fleet, mixed.shapes(int(SECONDS / PACE)), pace=PACE)
    verdict, samples = asyncio.run(soaked(conductor, probes))
    conductor.watch.close()
    print(f"{conductor.figures(broker.partition(':')[0], verdict)}\n{samples.figures}")
    # What streams have shown is forgotten with their workflows.
    assert {name: some for name, some in verdict.faults.items() if name != "streams out of order"} == {}
    assert samples.growing(BOUNDS) == {}


async def soaked(conductor: Conductor, probes: list[Probe]) -> tuple[Verdict, Samples]:
    """Run it to its end, and sample meanwhile."""
    samples = Samples()

    def sample() -> None:
        for number, process in enumerate(conductor.fleet.processes):
            samples.add(of_process(process.pid, f"worker {number}"))
        for probe in probes:
            samples.add(probe(conductor))

    async def again_and_again() -> None:
        while True:
            await asyncio.to_thread(sample)
            await asyncio.sleep(EVERY)

    sampling = asyncio.create_task(again_and_again())
    verdict = await conductor.run()
    if sampling.done():
        sampling.result()
    sampling.cancel()
    return verdict, samples

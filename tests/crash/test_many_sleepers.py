"""Workflows that sleep cost a row each: no memory of a worker and no message of the broker (G6)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from crash.fleet import Fleet, Process
from helpers import until
from sqlalchemy import text

from paigeant import sleep
from paigeant.database import Database

AN_HOUR = 3600.0
SLOWLY = 0.25
"""Seconds between two looks: who looks takes time from the workers."""


def memory_of(worker: Process) -> int:
    """What the process occupies, in bytes."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(kilobytes) * 1024


def fall_asleep(fleet: Fleet, workflows: int, sleeping: int = 0) -> list[str]:
    """Dispatch so many workflows; their ids, when all of them sleep beside those that do already."""
    ids = fleet.dispatch(sleep(AN_HOUR), count=workflows)
    asleep = "SELECT count(*) FROM paigeant_wait"
    until(lambda: fleet.facts.one(asleep) == sleeping + workflows, 240, SLOWLY)
    return ids


def let_an_hour_pass(fleet: Fleet) -> dict[str, float]:
    """Put all times forward, so that the earliest comes in two seconds; when each workflow is due."""
    database = Database(fleet.store or fleet.broker)
    with database.writer() as connection, connection.begin():
        earliest = connection.execute(text("SELECT min(due_at) FROM paigeant_wait")).scalar_one()
        forward = {"by": earliest - time.time() - 2}
        connection.execute(text("UPDATE paigeant_wait SET due_at = due_at - :by"), forward)
        due = connection.execute(text("SELECT correlation_id, due_at FROM paigeant_wait")).all()
    database.dispose()
    return {row[0]: row[1] for row in due}


def assert_all_wake_and_none_early(fleet: Fleet, ids: list[str], due: dict[str, float]) -> None:
    assert due.keys() == set(ids)
    running = "SELECT count(*) FROM paigeant_workflow WHERE status <> 'completed'"
    until(lambda: fleet.facts.one(running) == 0, 240, SLOWLY)
    woken = "SELECT correlation_id, finished_at FROM paigeant_step WHERE status = 'completed'"
    woke = dict(fleet.facts.rows(woken))
    assert woke.keys() == set(ids)
    assert [one for one in ids if woke[one] < due[one]] == []
    assert fleet.facts.one("SELECT count(*) FROM paigeant_wait") == 0


def messages_left(fleet: Fleet) -> int:
    """On the broker. What a worker has held without acknowledging it is back there after its end."""

    async def asked() -> int:
        try:
            return sum((await fleet.app.transport.queues()).values())
        finally:
            await fleet.app.close()

    return asyncio.run(asked())


def sleep_and_wake(fleet: Fleet, workflows: int) -> None:
    """One worker puts them to sleep and ends, another one wakes them."""
    fleet.settings = {"CRASH_CONCURRENCY": "50", "PAIGEANT_LEASE_SECONDS": "30"}
    worker = fleet.start().ready()
    few = workflows // 10
    ids = fall_asleep(fleet, few)
    before = memory_of(worker)
    ids += fall_asleep(fleet, workflows - few, few)
    assert memory_of(worker) - before < 2_000 * (workflows - few) + 8_000_000
    worker.stop()
    assert messages_left(fleet) == 0

    other = fleet.start().ready()
    due = let_an_hour_pass(fleet)
    assert_all_wake_and_none_early(fleet, ids, due)
    assert memory_of(other) - before < 2_000 * workflows + 16_000_000
    other.stop()
    assert messages_left(fleet) == 0
    assert "Traceback" not in fleet.logs


@pytest.mark.endurance
def test_ten_thousand_sleepers(make_fleet: Callable[..., Fleet], tmp_path: Path) -> None:
    """A worker is no larger for them; all of them wake, none early."""
    sleep_and_wake(make_fleet(f"sqlite:///{tmp_path}/paigeant.db"), 10_000)


def test_sleepers_with_broker_and_store_apart(make_apart: Callable[..., Fleet]) -> None:
    """No message of theirs is on the broker."""
    sleep_and_wake(make_apart(), 300)

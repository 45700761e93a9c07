"""The one clock of leases, locks, timers and schedules."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from stores.builders import FakeClock

from paigeant.database import Database, clock


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'file.db'}"


@pytest.fixture
def step_wall_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the wall clock of this process forward or back."""
    real = time.time
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: real() + seconds)


def opened(url: str) -> Database:
    database = Database(url)
    database.migrate("transports")
    return database


def test_a_step_of_the_wall_clock_moves_nothing(url: str, step_wall_clock: Callable[[float], None]) -> None:
    """Neither while a process runs nor when it asks the file again."""
    database = opened(url)
    before = database.now()
    step_wall_clock(3600)
    with database.writer() as connection, connection.begin():
        database.synchronise(connection)
    assert 0 <= database.now() - before < 60
    database.dispose()


def test_a_process_that_starts_after_the_step_agrees(url: str, step_wall_clock: Callable[[float], None]) -> None:
    """The first process of a run of the machine has written the time into the file."""
    first = opened(url)
    step_wall_clock(-3600)
    second = opened(url)
    assert abs(second.now() - first.now()) < 1
    first.dispose()
    second.dispose()


def test_another_run_of_the_machine_begins_anew(
    url: str, step_wall_clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All processes of the earlier run are gone, and the wall clock may have been put right since."""
    opened(url).dispose()
    monkeypatch.setattr(clock, "boot_id", lambda: "another")
    step_wall_clock(3600)
    later = opened(url)
    assert later.now() - time.time() == pytest.approx(0, abs=5)
    later.dispose()


def test_without_a_boot_id_each_process_counts_from_its_start(
    url: str, step_wall_clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There nothing in the file could be trusted after the machine has started anew."""
    monkeypatch.setattr(clock, "boot_id", lambda: None)
    database = opened(url)
    step_wall_clock(3600)
    assert database.now() < time.time() - 3000
    database.dispose()


def test_two_processes_have_the_same_boot_id() -> None:
    """Else they would count differently."""
    script = "from paigeant.database.clock import boot_id; print(boot_id())"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert other.stdout.strip() == str(clock.boot_id())


def test_a_given_clock_stays_in_charge(url: str, postgres_url: str) -> None:
    """Tests and simulations count their own seconds on every database."""
    for one in (url, postgres_url):
        given = FakeClock()
        database = Database(one, given)
        database.migrate("transports")
        with database.writer() as connection, connection.begin():
            database.synchronise(connection)
        assert database.now() == given.now()
        database.dispose()


def test_a_server_is_asked_and_the_wall_clock_is_not(
    postgres_url: str, step_wall_clock: Callable[[float], None]
) -> None:
    """A machine that is wrong by an hour counts as the server does, before and after it is put right."""
    real = time.time
    step_wall_clock(3600)
    database = opened(postgres_url)
    assert abs(database.now() - real()) < 60
    step_wall_clock(-3600)
    assert abs(database.now() - real()) < 60
    database.dispose()


class Connection:
    """Answers with a server's time, so many seconds after it was asked."""

    def __init__(self, ticking: list[float], server: Callable[[], float]) -> None:
        self.ticking, self.server, self.out, self.back = ticking, server, 0.0, 0.0

    def execute(self, _statement: object) -> Connection:
        self.ticking[0] += self.out
        return self

    def scalar_one(self) -> float:
        answer = self.server()
        self.ticking[0] += self.back
        return answer


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds since the machine started, which only the test moves."""
    seconds = [1000.0]
    monkeypatch.setattr(clock, "boot_time", lambda: seconds[0])
    return seconds


def test_a_slow_answer_moves_nothing_that_it_does_not_contradict(ticking: list[float]) -> None:
    """A server that answers after ten seconds was asked at some time in them."""
    connection, counted = Connection(ticking, lambda: 5000.0 + ticking[0]), clock.DatabaseClock()
    counted.ask_server(connection)
    assert counted.now() == 5000 + ticking[0]
    connection.back = 10.0
    counted.ask_server(connection)
    assert counted.now() == 5000 + ticking[0]


def test_a_machine_that_stood_still_is_put_right_by_the_next_answer(ticking: list[float]) -> None:
    """A paused virtual machine counts no seconds."""
    ahead = [5000.0]
    connection, counted = Connection(ticking, lambda: ahead[0] + ticking[0]), clock.DatabaseClock()
    counted.ask_server(connection)
    ahead[0] += 100.0
    counted.ask_server(connection)
    assert counted.now() == 5100 + ticking[0]


def test_the_answer_is_old_after_a_while(ticking: list[float]) -> None:
    """Then the next transaction asks again."""
    counted = clock.DatabaseClock()
    assert counted.is_older_than(5)
    counted.ask_server(Connection(ticking, lambda: 1.0))
    assert not counted.is_older_than(5)
    ticking[0] += 6
    assert counted.is_older_than(5)


def test_a_child_leaves_the_connections_to_its_parent(postgres_url: str) -> None:
    """It closes none of them, opens its own, and the parent's sessions go on."""
    database = opened(postgres_url)
    held = database.writer()
    pid = held.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    child = os.fork()
    if not child:  # pragma: no cover - another process
        database.forget_after_fork()
        with database.writer() as connection:
            own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        os._exit(0 if own != pid else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert held.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() == pid
    held.close()
    database.dispose()

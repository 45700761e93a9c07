"""Whether a lease that ran out proves a death."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from paigeant.transports.sql.leases import Leases

LEASE = 30.0


class Server:
    """A PostgreSQL that tells how long it is up, and whether it may have been a standby."""

    def __init__(self, up_for: float, was_standby: bool) -> None:
        self.row = (up_for, was_standby)

    def execute(self, _statement: Any) -> Any:
        return SimpleNamespace(one=lambda: self.row)


class Silent:
    """A service that speaks PostgreSQL's language and has none of its functions."""

    def execute(self, _statement: Any) -> Any:
        raise DBAPIError("SELECT", None, Exception("no such function"))


def leases(is_sqlite: bool = False) -> tuple[Leases, Any]:
    database: Any = SimpleNamespace(is_sqlite=is_sqlite, time=1000.0)
    database.now = lambda: database.time
    made = Leases(database, LEASE, lambda: None)
    return made, database


@pytest.mark.parametrize(
    ("up_for", "was_standby", "known_for", "may"),
    [
        (100.0, False, 0.0, True),
        (29.0, False, 1000.0, False),
        (100.0, True, 29.0, False),
        (100.0, True, 31.0, True),
        (29.0, True, 31.0, False),
    ],
    ids=["in order", "started lately", "promoted perhaps", "promoted before", "restarted standby"],
)
def test_a_server_is_given_one_lease(up_for: float, was_standby: bool, known_for: float, may: bool) -> None:
    """So long holders need to renew their leases after it was away."""
    made, database = leases()
    made.met()
    database.time += known_for
    reader: Any = Server(up_for, was_standby)
    assert made.may_judge(reader) is may


@pytest.mark.parametrize("is_sqlite", [False, True], ids=["postgresql", "sqlite"])
def test_nobody_is_judged_within_a_lease_after_trouble(is_sqlite: bool) -> None:
    """Whoever lost the database may be one of many."""
    made, database = leases(is_sqlite)
    reader: Any = Server(10_000.0, False)
    made.lost()
    database.time += LEASE - 1
    assert not made.may_judge(reader)
    database.time += 2
    assert made.may_judge(reader)


def test_a_server_that_tells_nothing_is_known_for_a_lease_first() -> None:
    """Also to a kombu program, which never opens the queues by itself."""
    made, database = leases()
    reader: Any = Silent()
    assert not made.may_judge(reader)
    database.time += LEASE
    assert made.may_judge(reader)


def test_a_clock_that_was_set_back_does_not_keep_the_dead_alive() -> None:
    """A loss in the future is none."""
    made, database = leases()
    made.lost()
    database.time -= 3600
    reader: Any = Server(10_000.0, False)
    assert made.may_judge(reader)

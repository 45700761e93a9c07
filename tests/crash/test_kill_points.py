"""A worker kills itself between every two effects; another one ends the workflow (durability.md: kill it anywhere)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from crash.fleet import Fleet
from crash.service import CHAIN
from helpers import until
from sqlalchemy import text

from paigeant.database import Database

ONE_TRANSACTION = ("claimed", "inside", "before settling", "in the transaction", "after the commit")
RUN_AGAIN = {"inside", "before settling", "in the transaction"}


def starts_of(fleet: Fleet, step: str) -> int:
    return sum(1 for fact in fleet.facts.notes() if fact["what"] == "start" and fact["step"] == step)


def finish(fleet: Fleet, workflow: str, *, given_back: bool = False) -> None:
    fleet.start()
    fleet.ended(workflow)
    fleet.facts.assert_each_step_ran_to_its_end_once([workflow], given_back=given_back)
    fleet.facts.assert_nothing_waits()


@pytest.mark.parametrize("point", ONE_TRANSACTION)
def test_killed_with_broker_and_store_in_one_database(fleet: Fleet, point: str) -> None:
    """Wherever the worker dies, each step completes once, and runs twice only if it had not been recorded."""
    fleet.lease = 0.6
    (workflow,) = fleet.dispatch(*CHAIN)
    fleet.start(AT=point).killed()
    finish(fleet, workflow)

    assert starts_of(fleet, "1") == 1
    assert starts_of(fleet, "2") == (2 if point in RUN_AGAIN else 1)
    assert starts_of(fleet, "3") == 1
    delivered = fleet.facts.one("SELECT deliveries FROM paigeant_step WHERE step_id = '2'")
    assert delivered == (1 if point == "after the commit" else 2)


@pytest.mark.parametrize("point", ["during release", "after release"])
def test_killed_while_giving_a_delivery_back(fleet: Fleet, point: str) -> None:
    """A worker that is told to stop dies around the release of a step it did not finish."""
    fleet.lease = 0.6
    (workflow,) = fleet.dispatch("first", fleet.app.activities["second"].step(seconds=1.0), "third")
    worker = fleet.start(AT=point, PAIGEANT_SHUTDOWN_TIMEOUT="0.1").ready()
    until(fleet.log_shows("start", "2"))
    worker.popen.terminate()
    worker.killed()
    finish(fleet, workflow, given_back=point == "after release")

    assert [starts_of(fleet, step) for step in "123"] == [1, 2, 1]


TRIAL = {"rewritten": 1, "before noting": 1, "noted": 1, "inside": 2, "before settling": 2}
"""Where it dies with a suspect, and how often the body of the step starts."""


@pytest.mark.parametrize("point", TRIAL)
def test_killed_during_the_trial_of_a_suspect(fleet: Fleet, point: str) -> None:
    """The message and its trial are never lost, and an innocent step completes."""
    fleet.lease = 0.6
    (workflow,) = fleet.dispatch("second", "third")
    make_suspect(fleet)
    fleet.start(AT=point).killed()
    fleet.start()
    fleet.ended(workflow)

    fleet.facts.assert_each_step_completed_once([workflow], steps=2)
    assert [starts_of(fleet, step) for step in "12"] == [TRIAL[point], 1]
    fleet.facts.assert_nothing_waits()


def make_suspect(fleet: Fleet) -> None:
    """As after two deaths by chance."""
    database = Database(fleet.broker)
    with database.writer() as connection, connection.begin():
        connection.execute(text("UPDATE paigeant_message SET deliveries = 2"))
    database.dispose()


APART = {"recorded": 1, "published": 1, "acknowledged": 1, "inside": 2}
"""Where it dies, and how often the body of the step starts."""


@pytest.mark.parametrize("point", APART)
def test_killed_with_broker_and_store_apart(make_fleet: Callable[..., Fleet], tmp_path: Path, point: str) -> None:
    """A recorded step is not run again: whoever gets its message once more sends the successor that was stored."""
    fleet = make_fleet(f"sqlite:///{tmp_path}/broker.db", f"sqlite:///{tmp_path}/store.db", lease=0.6)
    (workflow,) = fleet.dispatch(*CHAIN)
    fleet.start(AT=point).killed()
    finish(fleet, workflow)

    assert [starts_of(fleet, step) for step in "123"] == [1, APART[point], 1]


def test_killed_between_stores_on_two_servers(
    make_fleet: Callable[..., Fleet], tmp_path: Path, postgres_url: str
) -> None:
    """The same with the store in PostgreSQL and the broker in a file."""
    fleet = make_fleet(f"sqlite:///{tmp_path}/broker.db", postgres_url, lease=0.6)
    (workflow,) = fleet.dispatch(*CHAIN)
    fleet.start(AT="recorded").killed()
    finish(fleet, workflow)

    assert [starts_of(fleet, step) for step in "123"] == [1, 1, 1]


@pytest.mark.parametrize(
    "point", ["recorded", "published, not answered", "answered, not acknowledged", "written to the socket"]
)
def test_killed_with_a_broker_that_has_no_transactions(
    make_fleet: Callable[..., Fleet], tmp_path: Path, rabbitmq_url: str, prefix: str, point: str
) -> None:
    """RabbitMQ hands the message out again: the step is known to be done, and its successor is sent again."""
    fleet = make_fleet(rabbitmq_url, f"sqlite:///{tmp_path}/store.db", app_name=prefix)
    (workflow,) = fleet.dispatch(*CHAIN)
    fleet.start(AT=point).killed()
    fleet.start().ready()
    fleet.ended(workflow)

    fleet.facts.assert_each_step_completed_once([workflow])
    assert [starts_of(fleet, step) for step in "12"] == [1, 1]
    assert fleet.facts.one("SELECT count(*) FROM paigeant_outbox") == 0
    until(lambda: not any(asyncio.run(fleet.app.transport.queues()).values()))

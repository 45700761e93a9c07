"""A delivery count is not guilt: killers are set aside on evidence, and nobody else ever is (G12). Default settings."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable

import pytest
from brokers.progress import assert_complete, chain, until_finished
from brokers.test_limits import die_and_return, letters
from crash.fleet import Fleet, Process
from crash.test_random_kills import kill_along_the_way
from helpers import lengthy, until

BROKERS = [
    ("sqlite", None),
    lengthy("postgres", None),
    lengthy("redis", None),
    lengthy("redis", "sqlite"),
    lengthy("rabbitmq", None),
    lengthy("rabbitmq", "sqlite"),
]


@pytest.fixture
def guilt(
    make_fleet: Callable[..., Fleet], any_broker_url: str, store_url: str | None, prefix: str, broker: str
) -> Fleet:
    """Workers as users have them: five deliveries, and what runs beside each other."""
    fleet = make_fleet(any_broker_url, store_url, app_name=prefix, lease=1.5)
    if store_url is None and broker in ("sqlite", "postgres"):
        fleet.store = any_broker_url  # in the same database
    return fleet


@pytest.mark.slow
@pytest.mark.parametrize(("broker", "store"), BROKERS)
def test_random_deaths_set_nothing_aside(guilt: Fleet) -> None:
    """Ten workers die with up to eight of 300 innocent steps in hand: all complete, no dead letter is left."""
    guilt.settings = {"CRASH_CONCURRENCY": "8"}
    workflows = guilt.dispatch(*chain(guilt, 0.2), count=100)
    kill_along_the_way(guilt, 300, deaths=10)
    until_finished(guilt, workflows)

    assert letters(guilt) == []
    assert_complete(guilt, workflows)


@pytest.mark.endurance
@pytest.mark.parametrize(("broker", "store"), BROKERS)
def test_a_killer_is_set_aside_after_five_starts_under_load(guilt: Fleet) -> None:
    """Its neighbours, which die with it, complete: it is started twice in company and three times alone."""
    good = guilt.dispatch(*chain(guilt, 0.5), count=20)
    (deadly,) = guilt.dispatch("fatal")
    more = guilt.dispatch(*chain(guilt, 0.5), count=20)
    deaths, (letter,) = die_and_return(guilt, lambda: letters(guilt))
    until_finished(guilt, [*good, *more])

    starts = [note for note in guilt.facts.notes() if note["workflow"] == deadly]
    assert len(starts) == deaths == 5
    assert "ran alone in its process 3 times" in letter["reason"]
    assert b'"fatal"' in letter["body"]
    assert_complete_besides(guilt, [*good, *more], deadly)


@pytest.mark.endurance
@pytest.mark.parametrize(("broker", "store"), [("sqlite", None), lengthy("redis", None), lengthy("rabbitmq", "sqlite")])
def test_stops_cut_short_are_no_evidence(guilt: Fleet) -> None:
    """``docker stop`` with too little patience, ten times: the long step was no killer and completes in the end."""
    guilt.settings = {"PAIGEANT_SHUTDOWN_TIMEOUT": "60"}
    (workflow,) = guilt.dispatch(guilt.app.activities["first"].step(seconds=4.0))
    for number in range(1, 11):
        worker = guilt.start()
        until(lambda number=number: starts(guilt) >= number, 60)
        stop_as_docker_does(worker, patience=1.0)
    guilt.start()
    until_finished(guilt, [workflow], last="1")

    assert letters(guilt) == []
    assert starts(guilt) == 11


@pytest.mark.slow
@pytest.mark.parametrize(("broker", "store"), [("sqlite", None), lengthy("redis", None), lengthy("redis", "sqlite")])
def test_a_frozen_worker_begins_nothing_that_it_has_lost(guilt: Fleet) -> None:
    """It has four steps in hand when it stands still, and another worker completes them: it begins none of them."""
    frozen = guilt.start(CONCURRENCY="1").ready()
    workflows = guilt.dispatch(guilt.app.activities["first"].step(seconds=1.0), count=4)
    until(lambda: starts(guilt) >= 1)
    frozen.signal(signal.SIGSTOP)
    guilt.start()
    until(lambda: starts(guilt) >= 5, 60)
    until_finished(guilt, workflows, last="1")
    begun = [note["workflow"] for note in guilt.facts.notes() if note["pid"] == frozen.pid]
    frozen.signal(signal.SIGCONT)
    (fresh,) = guilt.dispatch(guilt.app.activities["second"].step(seconds=0.1))
    until_finished(guilt, [fresh], last="1")

    again = [note for note in guilt.facts.notes() if note["pid"] == frozen.pid and note["workflow"] in workflows]
    assert {note["workflow"] for note in again} == set(begun[:1])


def starts(fleet: Fleet) -> int:
    return sum(note["what"] == "start" for note in fleet.facts.notes())


def stop_as_docker_does(worker: Process, patience: float) -> None:
    worker.signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.popen.wait(patience)
    worker.kill()


def assert_complete_besides(fleet: Fleet, workflows: list[str], deadly: str) -> None:
    """Every other step came to its end."""
    ended = {(note["workflow"], note["step"]) for note in fleet.facts.notes() if note["what"] == "end"}
    assert ended == {(workflow, step) for workflow in workflows for step in "123"}
    assert deadly not in {workflow for workflow, _ in ended}

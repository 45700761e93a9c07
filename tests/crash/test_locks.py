"""Locks and limits over several processes: no more holders than there are places, and none for ever, whoever dies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash.fleet import Fleet
from crash.service import PLACES

MakeFleet = Callable[..., Fleet]


def contend(
    fleet: Fleet,
    steps: int,
    processes: int,
    deaths: int,
    deadline: float,
    names: tuple[str, str] = ("guarded", "mortal"),
) -> list[str]:
    """Steps that want one lock, in turn with some that kill their process while they hold it; their ids."""
    share, (guarded, mortal) = steps // deaths, names
    ids = [one for _ in range(deaths) for one in (*fleet.dispatch(guarded, count=share), *fleet.dispatch(mortal))]
    workers = [fleet.start() for _ in range(processes)]
    fleet.ended(*ids, deadline=deadline)
    statuses = fleet.facts.rows("SELECT DISTINCT status FROM paigeant_workflow")
    assert [row[0] for row in statuses] == ["completed"]
    alive = [worker for worker in workers if worker.is_alive]
    assert len(workers) - len(alive) == deaths
    for worker in alive:
        worker.stop()
    return ids


def assert_one_at_a_time(fleet: Fleet, ended: int, deaths: int) -> None:
    """Every step noted its start and its end before the next one's start; those who died their start only."""
    holder: dict[str, Any] | None = None
    cut_short = 0
    notes = fleet.facts.notes()
    for fact in notes:
        if fact["what"] == "start":
            cut_short += holder is not None
            holder = fact
        else:
            assert holder is not None
            assert (fact["message"], fact["pid"]) == (holder["message"], holder["pid"])
            holder = None
    assert (holder, cut_short) == (None, deaths)
    assert [fact["what"] for fact in notes].count("end") == ended


def test_a_killed_holder_frees_the_lock_and_there_is_one_at_a_time(make_fleet: MakeFleet, tmp_path: Path) -> None:
    """Fifty steps and three processes, of which one is killed while it holds the lock."""
    fleet = make_fleet(f"sqlite:///{tmp_path}/paigeant.db")
    ids = contend(fleet, 50, 3, 1, 90)
    assert_one_at_a_time(fleet, len(ids), 1)


def test_a_killed_holder_frees_its_place_and_there_are_never_too_many(make_fleet: MakeFleet, tmp_path: Path) -> None:
    """Sixty steps, three places and four processes, of which two are killed while they hold one."""
    fleet = make_fleet(f"sqlite:///{tmp_path}/paigeant.db")
    ids = contend(fleet, 60, 4, 2, 90, ("placed", "placed_mortal"))
    assert_so_many_at_a_time(fleet, ids, 2)


def assert_so_many_at_a_time(fleet: Fleet, ids: list[str], deaths: int) -> None:
    """Each step noted its start and its end. What a killed process held is free when its lease is over, not before."""
    notes = fleet.facts.notes()
    ended = {(fact["message"], fact["pid"]) for fact in notes if fact["what"] == "end"}
    cut_short = [fact for fact in notes if fact["what"] == "start" and (fact["message"], fact["pid"]) not in ended]
    assert len({fact["pid"] for fact in cut_short}) == deaths
    inside: set[tuple[str, int]] = set()
    for fact in notes:
        holder = fact["message"], fact["pid"]
        if fact["what"] == "end":
            inside.discard(holder)
        elif holder in ended:
            inside.add(holder)
        assert len(inside) <= PLACES
    again = {fact["workflow"]: fact["at"] for fact in notes if fact["what"] == "end"}
    assert {fact["workflow"] for fact in cut_short} <= again.keys() == set(ids)


@pytest.mark.endurance
@pytest.mark.timeout(700)
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_a_thousand_contended_steps(fleet: Fleet) -> None:
    """Four processes, of which three are killed while they hold the lock."""
    ids = contend(fleet, 1000, 4, 3, 600)
    assert_one_at_a_time(fleet, len(ids), 3)


@pytest.mark.endurance
@pytest.mark.timeout(700)
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_a_thousand_steps_in_three_places(fleet: Fleet) -> None:
    """Four processes, of which three are killed while they hold one."""
    assert_so_many_at_a_time(fleet, contend(fleet, 1000, 4, 3, 600, ("placed", "placed_mortal")), 3)

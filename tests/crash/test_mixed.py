"""Every kind of step at once, while workers are killed at random: nothing is lost, repeated or blamed (G1 to G12)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from crash import mixed
from crash.conductor import Conductor
from crash.fleet import Fleet
from crash.ledger import LEDGER
from helpers import lengthy

LEASE = 2.0
WORKERS = 4

SMALL = (40, 8)
"""Workflows and kills of the default run."""

WHOLE = (300, 60)


@pytest.fixture(params=["sqlite", lengthy("postgres"), lengthy("redis and postgres"), "rabbitmq and postgres"])
def place(request: pytest.FixtureRequest) -> str:
    """Which broker and store."""
    return str(request.param)


@pytest.fixture
def mixed_fleet(
    request: pytest.FixtureRequest,
    make_fleet: Callable[..., Fleet],
    place: str,
    prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Fleet:
    """Workers of the mixed service, with the default of deliveries."""
    match place.split(" and "):
        case ["sqlite"]:
            urls = (f"sqlite:///{tmp_path}/paigeant.db", None)
        case ["postgres"]:
            urls = (str(request.getfixturevalue("postgres_url")), None)
        case [broker, _]:
            urls = (str(request.getfixturevalue(f"{broker}_url")), str(request.getfixturevalue("postgres_url")))
    fleet = make_fleet(*urls, app_name=prefix, lease=LEASE, service=mixed)
    monkeypatch.setenv(LEDGER, str(fleet.ledger))
    fleet.settings = {"CRASH_CONCURRENCY": "8", "CRASH_AGAIN": "1"}
    return fleet


def killed_at_random(fleet: Fleet, place: str, workflows: int, kills: int) -> None:
    """Start workers, kill them along the way, and judge."""
    for process in [fleet.start() for _ in range(WORKERS)]:
        process.ready()
    conductor = Conductor(fleet, mixed.shapes(workflows), troubles=kills, trouble=Conductor.kill)
    conductor.conduct(place)
    assert len(conductor.killed) == kills


@pytest.mark.slow
def test_nothing_is_lost_repeated_or_blamed_when_workers_are_killed(mixed_fleet: Fleet, place: str) -> None:
    """The small run."""
    killed_at_random(mixed_fleet, place, *SMALL)


@pytest.mark.endurance
@pytest.mark.timeout(900)
def test_nothing_is_lost_repeated_or_blamed_in_the_whole_run(mixed_fleet: Fleet, place: str) -> None:
    """300 workflows and 60 kills."""
    killed_at_random(mixed_fleet, place, *WHOLE)

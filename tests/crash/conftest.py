"""Crash tests run real worker processes and kill them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from crash import service
from crash.fleet import Fleet, fleets


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.endurance)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of its own, as a broker and store in one."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/paigeant.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def make_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Fleet]]:
    monkeypatch.setenv(service.LOG, str(tmp_path / "starts.jsonl"))
    with fleets(tmp_path) as make:
        yield make


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet], database: str) -> Fleet:
    """Workers on one database."""
    return make_fleet(database)


@pytest.fixture(params=["rabbitmq and postgresql", "redis and sqlite"])
def make_apart(
    request: pytest.FixtureRequest, make_fleet: Callable[..., Fleet], tmp_path: Path, prefix: str
) -> Callable[..., Fleet]:
    """Makes workers whose broker and store are apart, so that the store takes no part in settlements."""
    if request.param == "redis and sqlite":
        broker, store = request.getfixturevalue("redis_url"), f"sqlite:///{tmp_path}/store.db"
    else:
        broker, store = request.getfixturevalue("rabbitmq_url"), request.getfixturevalue("postgres_url")
    return partial(make_fleet, broker, store, app_name=prefix)

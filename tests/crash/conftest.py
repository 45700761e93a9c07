"""Crash tests run real worker processes and kill them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash import service
from crash.fleet import Fleet


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.endurance)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of its own, as a broker and store in one."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/paigeant.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def make_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Fleet]]:
    fleets: list[Fleet] = []
    monkeypatch.setenv(service.LOG, str(tmp_path / "starts.jsonl"))

    def make(broker: str, store: str | None = None, **options: Any) -> Fleet:
        fleets.append(Fleet(tmp_path, broker, store, **options))
        return fleets[-1]

    yield make
    for fleet in fleets:
        fleet.close()


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet], database: str) -> Fleet:
    """Workers on one database."""
    return make_fleet(database)

"""Schedules from the command line: what is there, and pause, resume, run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from paigeant import App

Paigeant = Callable[..., Result]


def app_with(url: str, name: str = "shop") -> App:
    app = App(name, broker=url)

    @app.activity
    def report(day: str = "") -> str:
        return day

    app.schedule("nightly", report.step(day="x"), cron="0 3 * * *", timezone="Europe/Berlin", backfill="all")
    app.schedule("often", every=90, paused=True)(lambda: None)
    return app


def register(app: App) -> None:
    async def registered() -> None:
        await app.schedules.register()
        await app.close()

    asyncio.run(registered())


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database in which a worker of the App ``shop`` has registered its schedules; ``-A shop`` finds the App."""
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    register(app_with(url))
    monkeypatch.setattr("paigeant.cli.loading.load", lambda target: app_with(url, target))
    return url


@pytest.fixture
def paigeant(url: str, in_process: Callable[[str], Paigeant]) -> Paigeant:
    """Runs a command in this process."""
    return in_process(url)


def read(done: Result) -> Any:
    return json.loads(done.stdout)


def test_schedules_are_listed(paigeant: Paigeant) -> None:
    """With their times, and when each is due next; a paused one is not."""
    header, nightly, often = paigeant("schedules").stdout.splitlines()
    assert header.split()[:4] == ["NAME", "APP", "STATUS", "TIMES"]
    assert nightly.split()[:9] == ["nightly", "shop", "active", "0", "3", "*", "*", "*", "Europe/Berlin"]
    assert often.split()[:7] == ["often", "shop", "paused", "every", "90", "s", "-"]


def test_schedules_as_json(paigeant: Paigeant) -> None:
    """Times in UTC."""
    nightly, often = read(paigeant("schedules", "--json"))
    assert datetime.fromisoformat(nightly.pop("next_at")).minute == 0
    assert nightly == {
        "app": "shop",
        "name": "nightly",
        "status": "active",
        "every": None,
        "cron": "0 3 * * *",
        "timezone": "Europe/Berlin",
        "backfill": "all",
        "last_at": None,
        "last_id": None,
        "error": None,
    }
    assert (often["every"], often["status"]) == (90, "paused")


def test_pause_and_resume(paigeant: Paigeant) -> None:
    """Each says how the schedule stands now; said twice, nothing changes."""
    assert paigeant("schedule", "pause", "nightly").stdout.split() == ["nightly", "paused"]
    assert read(paigeant("schedule", "pause", "nightly", "--json"))["status"] == "paused"
    assert read(paigeant("schedule", "resume", "nightly", "--json"))["status"] == "active"
    assert paigeant("schedule", "resume", "nightly").stdout.split() == ["nightly", "active"]


def test_run_now(paigeant: Paigeant) -> None:
    """It prints the workflow's id; a paused schedule runs too, and may have nothing to dispatch."""
    said = read(paigeant("schedule", "run", "nightly", "-A", "shop", "--json"))
    assert said["name"] == "nightly"
    assert read(paigeant("workflow", said["correlation_id"], "--json"))["name"] == "nightly"
    nothing = paigeant("schedule", "run", "often", "-A", "shop")
    assert nothing.stdout == ""
    assert "'often' has nothing to dispatch now" in nothing.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "what", "to_do"),
    [
        (["pause", "nightli"], 3, "there is no schedule 'nightli'", "did you mean 'nightly'?"),
        (["resume", "xyz"], 3, "there is no schedule 'xyz'", "there is nightly, often"),
        (["run", "xyz", "-A", "shop"], 3, "App 'shop' has no schedule 'xyz' in its code", "there is nightly, often"),
        (["run", "nightly"], 2, "which App?", "add: -A"),
        (["stop", "nightly"], 2, "'stop' is not one of", "--help"),
    ],
    ids=["misspelt", "unknown", "not in the code", "no App", "unknown action"],
)
def test_mistakes(paigeant: Paigeant, arguments: list[str], code: int, what: str, to_do: str) -> None:
    """What is wrong, and what to type."""
    said = paigeant("schedule", *arguments, code=code).stderr
    assert what in said
    assert to_do in said


def test_without_a_store(paigeant: Paigeant, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to read."""
    monkeypatch.setenv("PAIGEANT_STORE_URL", "none")
    for arguments in (["schedules"], ["schedule", "pause", "nightly"]):
        assert "reads the store" in paigeant(*arguments, code=78).stderr


def test_of_several_apps_the_one_is_named(paigeant: Paigeant, url: str) -> None:
    """By -A; without it nobody can know which is meant."""
    register(app_with(url, "bank"))
    said = paigeant("schedule", "pause", "nightly", code=2).stderr
    assert "several Apps have a schedule 'nightly'\n  bank, shop\n  name the App: -A APP" in said
    assert read(paigeant("schedule", "pause", "nightly", "-A", "bank", "--json"))["app"] == "bank"

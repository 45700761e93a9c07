"""Steering workflows from the command line, and what it says when that cannot be done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from paigeant import App
from paigeant.cli import cli

WAITING, DONE = "0300-waiting", "0301-done"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database with a workflow that no worker has begun, and one that is over."""
    url = f"sqlite:///{tmp_path / 'shop.db'}"

    async def fill() -> None:
        app = App("shop", broker=url)
        await app.dispatch("elsewhere", id=WAITING)
        await (await app.dispatch("elsewhere", id=DONE)).cancel()
        await app.close()

    asyncio.run(fill())
    return url


@pytest.fixture
def paigeant(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command in this process; it must exit with ``code``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAIGEANT_BROKER_URL", url)

    def run(*arguments: str, code: int = 0) -> Result:
        done = CliRunner().invoke(cli, arguments, standalone_mode=True)
        assert done.exit_code == code, done.output
        return done

    return run


def said(done: Result) -> Any:
    return json.loads(done.stdout)


def test_a_workflow_is_paused_resumed_and_cancelled(paigeant: Callable[..., Result]) -> None:
    """Each says how it stands now."""
    assert said(paigeant("pause", "0300", "--by", "ada", "--json")) == {"correlation_id": WAITING, "status": "paused"}
    assert paigeant("resume", WAITING).stdout == f"{WAITING}  running\n"
    stopped = paigeant("cancel", WAITING, "--reason", "no longer wanted", "--by", "ada")
    assert stopped.stdout == f"{WAITING}  cancelled\n"
    shown = said(paigeant("workflow", WAITING, "--json"))
    about = shown["cancellation"]
    assert (about["by"], about["reason"], about["compensate"]) == ("ada", "no longer wanted", False)
    assert "cancelled by ada: no longer wanted" in paigeant("workflow", WAITING).stdout
    failed = paigeant("result", WAITING, code=1)
    assert "was cancelled by ada" in failed.stderr


def test_what_is_to_be_taken_back_waits_for_a_worker(paigeant: Callable[..., Result]) -> None:
    """The wish is recorded."""
    assert said(paigeant("cancel", WAITING, "--compensate", "--json"))["status"] == "running"
    assert said(paigeant("workflow", WAITING, "--json"))["cancellation"]["compensate"] is True
    refused = paigeant("pause", WAITING, code=1)
    assert "is being cancelled\n  it cannot be paused" in refused.stderr


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_workflow_in_the_wrong_state_is_named(paigeant: Callable[..., Result], command: str) -> None:
    """And what to do."""
    refused = paigeant(command, DONE, code=1)
    assert f"workflow {DONE} is cancelled" in refused.stderr
    assert f"paigeant workflow {DONE}" in refused.stderr


@pytest.mark.parametrize("command", ["cancel", "pause", "resume"])
def test_a_workflow_that_is_not_there(paigeant: Callable[..., Result], command: str) -> None:
    """The list has those that are."""
    refused = paigeant(command, "9999", code=3)
    assert "no workflow's id begins with '9999'" in refused.stderr
    assert "paigeant workflows" in refused.stderr


@pytest.mark.parametrize("command", ["cancel", "pause", "resume"])
def test_without_a_store(paigeant: Callable[..., Result], command: str) -> None:
    """Where to get one."""
    refused = paigeant(command, "9999", "-b", "amqp://127.0.0.1:1", code=78)
    assert "--store sqlite:///paigeant.db" in refused.stderr

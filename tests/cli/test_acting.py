"""Commands that change something: retry a step, decide, signal, purge a queue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from paigeant import App, RetryPolicy, Worker, await_approval, await_signal

Paigeant = Callable[..., Result]


@pytest.fixture
def paigeant(tmp_path: Path, in_process: Callable[[str], Paigeant]) -> Paigeant:
    """Runs a command in this process, on a database of its own."""
    return in_process(f"sqlite:///{tmp_path / 'paigeant.db'}")


def read(done: Result) -> Any:
    return json.loads(done.stdout)


# --- retry -----------------------------------------------------------------------------------------------------------


def test_a_step_that_waits_for_an_operator_is_tried_again(
    tmp_path: Path, paigeant: Paigeant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output names the step, also as JSON; a second retry finds no step."""
    url = f"sqlite:///{tmp_path / 'stopped.db'}"
    monkeypatch.setenv("PAIGEANT_BROKER_URL", url)
    app = App("shop", broker=url)

    @app.activity(retry=RetryPolicy(exhausted="park"))
    async def stop() -> None:
        raise ConnectionError("down")

    async def run() -> None:
        await app.dispatch(stop, id="0300-stopped")
        await Worker(app, burst=True).run()

    asyncio.run(run())
    said = read(paigeant("retry", "0300", "--by", "ada", "--json"))
    assert said == {"correlation_id": "0300-stopped", "steps": ["1"]}
    refused = paigeant("retry", "0300", code=1)
    assert "no step of it waits for an operator" in refused.stderr


# --- approvals and signals -------------------------------------------------------------------------------------------


def test_people_decide_and_signal_from_the_command_line(
    tmp_path: Path, paigeant: Paigeant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command lists open approvals; the decision reaches the step, with its author and reason."""
    url = f"sqlite:///{tmp_path / 'asked.db'}"
    monkeypatch.setenv("PAIGEANT_BROKER_URL", url)
    app = App("shop", broker=url)

    @app.activity
    async def refund() -> int:
        return 100

    async def run(*steps: Any, id: str) -> None:  # noqa: A002
        await app.dispatch(refund, *steps, id=id)
        await Worker(app, burst=True).run()

    asyncio.run(run(await_approval("Refund this?"), id="0400-asked"))
    [asked] = read(paigeant("approvals", "--json"))
    assert (asked["correlation_id"], asked["asks"], asked["details"]) == ("0400-asked", "Refund this?", 100)
    assert "Refund this?" in paigeant("approvals").stdout
    words = ("approve", "0400", "--question", asked["question"][:12], "--by", "ada", "--reason", "fair", "--json")
    said = {"approved": True, "by": "ada", "reason": "fair", "question": asked["question"][:12]}
    assert read(paigeant(*words)) == {"correlation_id": "0400-asked", **said}
    assert "no open approval requests" in paigeant("approvals").stderr
    asyncio.run(Worker(app, burst=True).run())
    assert read(paigeant("workflow", "0400", "--json"))["status"] == "completed"

    asyncio.run(run(await_approval("And this?"), id="0401-denied"))
    [asked] = read(paigeant("approvals", "--json"))
    assert "denied by bob" in paigeant("deny", "0401", "--by", "bob", "--question", asked["question"]).stdout
    asyncio.run(Worker(app, burst=True).run())
    assert "ApprovalDenied: denied by bob" in paigeant("workflow", "0401").stdout
    assert "no step of it waits for an approval" in paigeant("approve", "0401", code=1).stderr

    asyncio.run(run(await_signal("word"), id="0402-signalled"))
    assert "is not JSON" in paigeant("signal", "0402", "word", "hello", code=2).stderr
    assert read(paigeant("signal", "0402", "word", '"hello"', "--json"))["value"] == "hello"
    asyncio.run(Worker(app, burst=True).run())
    assert json.loads(paigeant("result", "0402").stdout) == "hello"


# --- purge -----------------------------------------------------------------------------------------------------------


def test_purge(paigeant: Paigeant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deletes waiting messages once it is confirmed; reports a queue that does not exist."""
    url = f"sqlite:///{tmp_path / 'full.db'}"
    monkeypatch.setenv("PAIGEANT_BROKER_URL", url)
    app = App("full")
    for _ in range(3):
        app.dispatch("a", "b")
    app.close_sync()
    assert "--yes" in paigeant("purge", "full.a", code=2).stderr
    assert "'full.a'?" in paigeant("purge", "full.aa", "--yes", code=3).stderr
    assert read(paigeant("purge", "full.a", "--yes", "--json")) == [{"queue": "full.a", "deleted": 3}]
    assert paigeant("purge", "--all", "--yes").stdout.split() == ["full.a", "0", "deleted"]
    assert paigeant("purge", "--yes", code=2).stdout == ""


def test_purged_messages_do_not_come_back(paigeant: Paigeant, tmp_path: Path) -> None:
    """With broker and store apart, the outbox forgets them too; other queues keep their messages."""
    broker, store = (f"sqlite:///{tmp_path / name}.db" for name in ("broker", "store"))

    async def lost() -> dict[str, int]:
        app = App("full", broker, store)
        try:
            return dict(await app.store.overdue(-1.0))
        finally:
            await app.close()

    app = App("full", broker, store)
    app.dispatch("a")
    app.dispatch("b")
    app.close_sync()
    assert asyncio.run(lost()) == {"full.a": 1, "full.b": 1}
    paigeant("purge", "full.a", "--yes", "-b", broker, "--store", store)
    assert asyncio.run(lost()) == {"full.b": 1}

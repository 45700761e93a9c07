"""A workflow that needs a person says so, with the command to type next; the plan is shown as it is now."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from paigeant import ActivityContext, App, RetryPolicy, Worker, await_approval, sleep

Paigeant = Callable[..., Result]


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App("shop", broker=f"sqlite:///{tmp_path / 'paigeant.db'}")


@pytest.fixture
def paigeant(app: App, in_process: Callable[[str], Paigeant]) -> Paigeant:
    return in_process(app.settings.broker_url)


def ran(app: App, *steps: object, id: str) -> None:  # noqa: A002
    """Dispatch the steps and let a worker do what can be done."""

    async def run() -> None:
        await app.dispatch(*steps, id=id)
        await Worker(app, burst=True).run()
        await app.close()

    asyncio.run(run())


def facts_and_steps(done: Result) -> tuple[dict[str, str], list[str]]:
    """The upper part by name, and the lines of the table."""
    facts, table = done.stdout.split("\n\n")
    named = (line.split("  ", 1) for line in facts.splitlines())
    return {name: value.strip() for name, value in named}, table.splitlines()


# --- who waits for a person ------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(app: App) -> str:
    """A workflow whose first step has used up its attempts and waits for an operator."""

    @app.activity(retry=RetryPolicy(exhausted="park"))
    async def charge() -> None:
        raise ConnectionError("no route")

    ran(app, charge, "charge", id="k1")
    return "k1"


def test_workflow_says_that_a_step_waits_for_an_operator(paigeant: Paigeant, stopped: str) -> None:
    """With the error as error, and the command to type."""
    facts, (header, first, second) = facts_and_steps(paigeant("workflow", stopped))
    assert facts["status"] == "waits for an operator"
    assert facts["error"] == "ConnectionError: no route"
    assert facts["next"] == "paigeant retry k1"
    assert header.split()[-2:] == ["OUTPUT", "ERROR"]
    assert "waits for an operator" in first
    assert "ConnectionError" in first[header.index("ERROR") :]
    assert "ConnectionError" not in first[: header.index("ERROR")]
    assert "pending" in second


def test_workflows_says_that_a_workflow_waits_for_an_operator(paigeant: Paigeant, stopped: str) -> None:
    """With its error, and the command to type; the status for programs is still that of the state machine."""
    header, line = paigeant("workflows").stdout.splitlines()
    assert header.split()[-2:] == ["ERROR", "NEXT"]
    assert "waits for an operator" in line
    assert "ConnectionError: no route" in line
    assert line.endswith("paigeant retry k1")
    (data,) = json.loads(paigeant("workflows", "--json").stdout)
    assert data["status"] == "running"


def test_the_command_that_is_named_helps(paigeant: Paigeant, stopped: str) -> None:
    """After it nothing waits for an operator any more."""
    paigeant("retry", stopped)
    facts, _ = facts_and_steps(paigeant("workflow", stopped))
    assert facts["status"] == "running"
    assert "next" not in facts
    assert "NEXT" not in paigeant("workflows").stdout


def test_a_paused_workflow_names_resume(app: App, paigeant: Paigeant) -> None:
    """Where retry would be wrong."""
    app.activity(name="pack")(lambda: None)

    async def begin() -> None:
        await app.dispatch("pack", id="p1")
        await app.close()

    asyncio.run(begin())
    paigeant("pause", "p1")
    facts, _ = facts_and_steps(paigeant("workflow", "p1"))
    assert (facts["status"], facts["next"]) == ("paused", "paigeant resume p1")
    assert paigeant("workflows").stdout.splitlines()[1].endswith("paigeant resume p1")


def test_a_workflow_that_waits_for_an_approval_names_approve(app: App, paigeant: Paigeant) -> None:
    """The status is still running: nothing failed."""
    app.activity(name="refund")(lambda: None)
    ran(app, await_approval("Refund?"), "refund", id="a1")
    facts, _ = facts_and_steps(paigeant("workflow", "a1"))
    assert (facts["status"], facts["next"]) == ("running", "paigeant approve a1 (or deny)")


def test_a_failed_workflow_names_retry(app: App, paigeant: Paigeant) -> None:
    """In its view; the list would say so of every one."""

    @app.activity
    async def refuse() -> None:
        raise ValueError("never")

    ran(app, refuse, id="f1")
    facts, _ = facts_and_steps(paigeant("workflow", "f1"))
    assert facts["next"] == "paigeant retry f1"
    assert "NEXT" not in paigeant("workflows").stdout


# --- the plan as it is now -------------------------------------------------------------------------------------------


def rows(done: Result) -> list[list[str]]:
    """Activity and status of each step, in the order in which they are shown."""
    return [line.split()[1:3] for line in facts_and_steps(done)[1][1:]]


def test_a_skipped_step_is_shown_as_skipped_in_its_place(app: App, paigeant: Paigeant) -> None:
    """Also when the workflow has completed."""

    @app.activity
    async def choose(ctx: ActivityContext) -> None:
        ctx.skip("gift")

    app.activity(name="gift")(lambda: None)
    app.activity(name="ship")(lambda: "shipped")
    ran(app, choose, "gift", "ship", id="s1")
    expected = [["choose", "completed"], ["gift", "skipped"], ["ship", "completed"]]
    assert rows(paigeant("workflow", "s1")) == expected


def test_inserted_steps_are_shown_in_their_place(app: App, paigeant: Paigeant) -> None:
    """Before they run."""

    @app.activity
    async def check(ctx: ActivityContext) -> None:
        ctx.insert(sleep(3600), "review")

    app.activity(name="ship")(lambda: None)
    ran(app, check, "ship", id="i1")
    shown = rows(paigeant("workflow", "i1"))
    expected = [["check", "completed"], ["paigeant.sleep", "parked"], ["review", "pending"], ["ship", "pending"]]
    assert shown == expected

"""Every operation on a workflow or a schedule from the command line: as JSON, and what is said when it cannot be."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result

from paigeant import (
    ActivityContext,
    ActivitySpec,
    App,
    RetryPolicy,
    Worker,
    await_approval,
    await_signal,
    scatter,
    sleep,
)
from paigeant.records.workflow import WorkerRecord

RUNNING, PAUSED, OVER, DONE = "running-1", "paused-1", "over-1", "done-1"
ASKING, FAILING, SLEEPING, LISTENING, GATHERING = "asking-1", "failing-1", "sleeping-1", "listening-1", "gathering-1"

Paigeant = Callable[..., Result]


def app_with(url: str) -> App:
    app = App("shop", broker=url)

    @app.activity(retry=RetryPolicy(exhausted="park"))
    async def fail() -> None:
        raise ConnectionError("down")

    @app.activity
    async def work() -> None: ...

    @app.activity
    def hire(ctx: ActivityContext) -> Any:
        return ctx.wait_for(ctx.dispatch(await_signal("hired"), name="helper"))

    return app


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a workflow in each state that an operator meets, and two schedules, one of them orphaned."""
    path = tmp_path_factory.mktemp("operations") / "shop.db"

    async def fill() -> None:
        app = app_with(f"sqlite:///{path}")
        app.schedule("gone", every=3600)(lambda: None)
        app.schedule("kept", every=3600)(lambda: None)
        await app.schedules.register()
        del app.declared_schedules["gone"]
        await app.dispatch(await_approval("Refund?"), id=ASKING)
        await app.dispatch("fail", id=FAILING)
        await app.dispatch("work", id=DONE)
        await app.dispatch(sleep(86_400), id=SLEEPING)
        await app.dispatch(await_signal("word", timeout=86_400), id=LISTENING)
        await app.dispatch(scatter("hire", sleep(86_400)), id=GATHERING)
        await Worker(app, burst=True).run()
        await app.dispatch("elsewhere", id=RUNNING)
        await (await app.dispatch("elsewhere", id=PAUSED)).pause()
        await (await app.dispatch("elsewhere", id=OVER)).cancel()
        await app.close()

    asyncio.run(fill())
    return path


@pytest.fixture
def paigeant(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: Callable[[str], Paigeant]
) -> Paigeant:
    """Runs a command in this process on a copy of the database; it must exit with ``code``."""
    shutil.copy(shelf, tmp_path / "shop.db")
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    monkeypatch.setattr("paigeant.cli.loading.load", lambda _: app_with(url))
    return in_process(url)


def read(done: Result) -> Any:
    return json.loads(done.stdout)


OPERATIONS: dict[tuple[str, ...], tuple[str, dict[str, Any], str]] = {
    # the command: on what it works, what it then says as JSON, and what is in the wrong state for it
    ("signal", "ID", "word", "5"): (LISTENING, {"name": "word", "value": 5, "by": None}, OVER),
    ("approve", "ID", "--by", "ada"): (ASKING, {"approved": True, "by": "ada", "reason": ""}, RUNNING),
    ("approve", "ID", "--by", "ada", "--arguments", '{"n": 1}'): (
        ASKING,
        {"approved": True, "by": "ada", "reason": "", "arguments": {"n": 1}},
        OVER,
    ),
    ("deny", "ID", "--by", "ada", "--reason", "no"): (ASKING, {"approved": False, "by": "ada", "reason": "no"}, OVER),
    ("cancel", "ID"): (RUNNING, {"status": "cancelled"}, DONE),
    ("cancel", "ID", "--compensate"): (RUNNING, {"status": "running"}, DONE),
    ("pause", "ID"): (RUNNING, {"status": "paused"}, OVER),
    ("resume", "ID"): (PAUSED, {"status": "running"}, RUNNING),
    ("retry", "ID"): (FAILING, {"steps": ["1"]}, RUNNING),
}


SCHEDULES: dict[tuple[str, ...], tuple[str, str]] = {
    ("schedule", "pause", "NAME"): ("kept", "paused"),
    ("schedule", "resume", "NAME"): ("kept", "active"),
    ("schedule", "delete", "NAME"): ("gone", "deleted"),
}


def put(command: tuple[str, ...], word: str) -> list[str]:
    return [word if part in ("ID", "NAME") else part for part in command]


@pytest.mark.parametrize("command", OPERATIONS, ids=" ".join)
def test_an_operation_says_as_json_what_it_did(paigeant: Paigeant, command: tuple[str, ...]) -> None:
    """The beginning of the id is enough."""
    workflow, said, _ = OPERATIONS[command]
    words = put(command, workflow[:4])
    if command[0] in ("approve", "deny"):
        question = read(paigeant("approvals", "--json"))[0]["question"]
        words, said = [*words, "--question", question], {"question": question, **said}
    assert read(paigeant(*words, "--json")) == {"correlation_id": workflow, **said}


def test_a_question_is_named_where_nobody_can_be_asked(paigeant: Paigeant) -> None:
    """A beginning of its name is enough; an answer to another question changes nothing."""
    refused = paigeant("approve", ASKING, code=2)
    assert "which question do you answer?" in refused.stderr
    assert "'Refund?'" in refused.stderr
    assert "asked now" in paigeant("approve", ASKING, "--question", "0000", code=1).stderr
    (asked,) = read(paigeant("approvals", "--json"))
    assert asked["question"][:12] in paigeant("approvals").stdout
    assert "approved by ada" in paigeant("approve", ASKING, "--question", asked["question"][:6], "--by", "ada").stdout
    assert "no step of it waits" in paigeant("deny", ASKING, "--question", asked["question"], code=1).stderr
    events = map(json.loads, paigeant("events", ASKING, "--json").stdout.splitlines())
    (given,) = [one for one in events if one["type"] == "signal_received"]
    assert given["data"]["question"] == asked["question"]


def test_a_terminal_shows_the_question_and_asks(paigeant: Paigeant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever confirms has seen it; whoever does not changes nothing."""
    monkeypatch.setattr("paigeant.cli.deciding._is_terminal", lambda: True)
    monkeypatch.setattr("click.confirm", _refusing)
    refused = paigeant("approve", ASKING, code=130)
    assert "asks: Refund?" in refused.stderr
    assert read(paigeant("approvals", "--json"))
    monkeypatch.setattr("click.confirm", lambda *_, **__: True)
    assert "denied by ada" in paigeant("deny", ASKING, "--by", "ada").stdout


def _refusing(*_: object, **__: object) -> None:
    raise click.Abort


@pytest.mark.parametrize("command", OPERATIONS, ids=" ".join)
def test_an_operation_in_the_wrong_state_says_where_to_look(paigeant: Paigeant, command: tuple[str, ...]) -> None:
    """And how the workflow stands."""
    *_, wrong = OPERATIONS[command]
    refused = paigeant(*put(command, wrong), "--json", code=1)
    assert refused.stdout == ""
    assert (
        f"workflow {wrong} is {wrong.partition('-')[0].replace('over', 'cancelled').replace('done', 'completed')}"
        in (refused.stderr)
    )
    assert f"see: paigeant workflow {wrong}" in refused.stderr


@pytest.mark.parametrize("command", OPERATIONS, ids=" ".join)
def test_an_operation_on_what_is_not_there_says_where_to_look(paigeant: Paigeant, command: tuple[str, ...]) -> None:
    """The list has what is."""
    refused = paigeant(*put(command, "nope"), "--json", code=3)
    assert "Error: no workflow's id begins with 'nope'\n  see: paigeant workflows" in refused.stderr
    refused = paigeant(*put(command, ""), "--json", code=3)
    assert "see: paigeant workflows" in refused.stderr


@pytest.mark.parametrize("command", [*OPERATIONS, *SCHEDULES, ("waiting",), ("approvals",)], ids=" ".join)
def test_an_operation_without_a_store_says_how_to_name_one(paigeant: Paigeant, command: tuple[str, ...]) -> None:
    """A broker alone knows no workflows."""
    refused = paigeant(*put(command, RUNNING), "--json", "-b", "amqp://127.0.0.1:1", code=78)
    assert refused.stdout == ""
    assert "--store sqlite:///paigeant.db" in refused.stderr


@pytest.mark.parametrize("command", SCHEDULES, ids=" ".join)
def test_an_operation_on_a_schedule(paigeant: Paigeant, command: tuple[str, ...]) -> None:
    """As JSON, and on one that is not there."""
    name, status = SCHEDULES[command]
    said = read(paigeant(*put(command, name), "--json"))
    assert (said["name"], said["app"], said["status"]) == (name, "shop", status)
    assert "did you mean 'kept'?" in paigeant(*put(command, "kept1"), code=3).stderr


def test_a_schedule_is_deleted_when_the_code_has_it_no_more(paigeant: Paigeant) -> None:
    """What living workers have is left; when all of them are gone, nobody can say that the code still has it."""

    async def announce() -> None:
        app = app_with("sqlite:///shop.db")
        shape = {"host": "host", "pid": 1, "activities": (), "queues": (), "concurrency": 1}
        await app.store.announce(WorkerRecord(id="w", app="shop", started_at=1e9, seen_at=1e9, **shape))
        await app.close()

    async def withdraw() -> None:
        app = app_with("sqlite:///shop.db")
        await app.store.withdraw("w")
        await app.close()

    asyncio.run(announce())
    assert paigeant("schedule", "delete", "gone").stdout == "gone  deleted\n"
    assert "there is no schedule 'gone'" in paigeant("schedule", "delete", "gone", code=3).stderr
    refused = paigeant("schedule", "delete", "kept", code=1)
    assert "workers of App 'shop' have the schedule 'kept' in their code" in refused.stderr
    assert "paigeant schedule pause kept" in refused.stderr
    asyncio.run(withdraw())
    assert paigeant("schedule", "delete", "kept").stdout == "kept  deleted\n"


# --- what is over ----------------------------------------------------------------------------------------------------


def test_workflows_that_have_ended_are_forgotten(paigeant: Paigeant, tmp_path: Path) -> None:
    """Those only, as old as is said; or only their large values."""

    async def dispatch() -> None:
        app = app_with("sqlite:///shop.db")
        steps = [ActivitySpec(name="elsewhere", arguments={"doc": "x" * 100_000})]
        await app.dispatch(*steps, id="runs-1")
        await (await app.dispatch(*steps, id="ended-1")).cancel()
        await app.close()

    asyncio.run(dispatch())
    now = ("prune", "--older-than", "0")
    assert read(paigeant("prune", "--older-than", "1d", "--values", "--json"))["values"] == 0
    assert paigeant(*now, "--values").stdout == "1 value deleted\n"
    assert paigeant(*now, "--values").stdout == "0 values deleted\n"
    (found,) = [one for one in read(paigeant(*now, "--dry-run", "--json")) if one["correlation_id"] == "ended-1"]
    assert found["workflows"] == 1
    assert "ended-1" in paigeant(*now, "--dry-run").stdout
    assert "ended-1" not in paigeant(*now, "--status", "completed", "--dry-run").stdout
    assert "add: --yes" in paigeant(*now, code=2).stderr
    assert read(paigeant(*now, "--yes", "--json"))["workflows"] >= 1
    there = [one["correlation_id"] for one in read(paigeant("workflows", "--json"))]
    assert "runs-1" in there
    assert "ended-1" not in there
    without = paigeant("prune", "--older-than", "1", "-y", "-b", "amqp://127.0.0.1:1", code=78)
    assert "--store sqlite:///paigeant.db" in without.stderr
    assert "--older-than" in paigeant("prune", code=2).stderr
    assert "'soon' is not an age" in paigeant("prune", "--older-than", "soon", code=2).stderr


# --- what waits ------------------------------------------------------------------------------------------------------


def test_what_waits_is_listed_with_for_what_and_since_when(paigeant: Paigeant) -> None:
    """The oldest first, in words for people."""
    header, *lines = paigeant("waiting").stdout.splitlines()
    assert header.split() == ["ID", "STEP", "ACTIVITY", "WAITS_FOR", "SINCE_(UTC)", "UNTIL_(UTC)"]
    assert len(lines) == 8
    told = "\n".join(lines)
    for words in (
        "approval: Refund?",
        "operator, after ConnectionError: down",
        "signal word",
        "signal hired",
        "2 branches",
        "  time  ",
        "  workflow ",
    ):
        assert words in told


@pytest.mark.parametrize(
    ("options", "who"),
    [
        (["--for", "time", LISTENING], []),
        (["--for", "signal", LISTENING], [LISTENING]),
        (["--for", "approval"], [ASKING]),
        (["--for", "operator"], [FAILING]),
        (["--for", "branches"], [GATHERING]),
        (["--for", "lock"], []),
        (["sleep"], [SLEEPING]),
    ],
    ids=" ".join,
)
def test_what_waits_is_narrowed_down(paigeant: Paigeant, options: list[str], who: list[str]) -> None:
    """By what it waits for, and by workflow."""
    assert [one["correlation_id"] for one in read(paigeant("waiting", "--json", *options))] == who


def test_what_waits_as_json(paigeant: Paigeant) -> None:
    """The key as programs know it, times as ISO 8601."""
    [one] = read(paigeant("waiting", LISTENING, "--json"))
    assert one.pop("since") < one.pop("due_at")
    assert one == {
        "correlation_id": LISTENING,
        "step_id": "1",
        "activity": "paigeant.await_signal",
        "for": "signal",
        "key": "signal:word",
        "detail": {"signal": "word"},
    }
    assert "see: paigeant workflows" in paigeant("waiting", "nope", code=3).stderr


# --- what was dispatched by others -----------------------------------------------------------------------------------


def test_workflows_that_others_dispatched_are_listed_on_demand(paigeant: Paigeant) -> None:
    """Branches and children; each says of which workflow."""
    top = {one["correlation_id"]: one["parent"] for one in read(paigeant("workflows", "--json"))}
    assert top == dict.fromkeys((RUNNING, PAUSED, OVER, DONE, ASKING, FAILING, SLEEPING, LISTENING, GATHERING))
    branches = read(paigeant("workflows", "--children-of", "gather", "--json"))
    assert [(one["parent"], one["status"]) for one in branches] == [(GATHERING, "running")] * 2
    everything = read(paigeant("workflows", "--all", "--json"))
    assert len(everything) == len(top) + 3
    [child] = [one for one in everything if one["name"] == "helper"]
    assert child["parent"] in {one["correlation_id"] for one in branches}
    assert child["parent"] in paigeant("workflow", child["correlation_id"]).stdout
    assert "either --all or --children-of" in paigeant("workflows", "--all", "--children-of", "x", code=2).stderr

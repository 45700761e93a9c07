"""Every command that reads: aligned text in a pipe, tables on a terminal, JSON on demand."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from paigeant import ActivityContext, App, Worker
from paigeant.records.offer import Offer
from paigeant.records.workflow import WorkerRecord

COMPLETED, FAILED, WAITING = "0199-completed", "0199-failed", "0200-waiting"
SECRET = "\x1b[31mred\x1b[0m\nsecond line"


def app_with(url: str) -> App:
    app = App("shop", broker=url)

    @app.activity
    async def price(item: str, count: int = 1) -> int:
        """What it costs.

        More about it.
        """
        return len(item) * count

    @app.activity
    async def pay(amount: int, ctx: ActivityContext) -> str:
        ctx.variables["paid"] = amount
        return f"{amount} paid"

    @app.activity(queue="slow")
    async def refuse() -> None:
        raise ValueError(SECRET)

    return app


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with one workflow that completed, one that failed and one that waits."""
    url = f"sqlite:///{tmp_path_factory.mktemp('reading') / 'shop.db'}"

    async def fill() -> None:
        app = app_with(url)
        price, pay, refuse = app.activities.values()
        await app.dispatch(price.step(item="book"), pay, id=COMPLETED, variables={"customer": "Ada"})
        await app.dispatch(refuse.step(), pay, id=FAILED, name="refusal")
        await Worker(app, burst=True).run()
        await app.dispatch("elsewhere", id=WAITING)
        assert app.store is not None
        seen = {"started_at": 1e9, "seen_at": 1e9}
        shape = {"activities": ("price", "pay"), "queues": ("shop.price",), "concurrency": 7}
        await app.store.announce(WorkerRecord(id="host-1-abcd", app="shop", host="host", pid=1, **shape, **seen))
        await app.close()

    asyncio.run(fill())
    return url


Paigeant = Callable[..., Result]


@pytest.fixture
def paigeant(url: str, in_process: Callable[[str], Paigeant]) -> Paigeant:
    """Runs a command in this process."""
    return in_process(url)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, url: str) -> App:
    """What ``-A shop`` finds."""
    app = app_with(url)
    monkeypatch.setattr("paigeant.cli.loading.load", lambda target: app)
    return app


def read(done: Result) -> Any:
    return json.loads(done.stdout)


def is_utc(text: str) -> bool:
    return datetime.fromisoformat(text).tzinfo is UTC


# --- workflows -------------------------------------------------------------------------------------------------------


def test_workflows_plain(paigeant: Paigeant) -> None:
    """A line has the id, the name and the status; the newest comes first."""
    header, *lines = paigeant("workflows").stdout.splitlines()
    assert header.split()[:3] == ["ID", "NAME", "STATUS"]
    assert [line.split()[:3] for line in lines] == [
        [WAITING, "shop", "running"],
        [FAILED, "refusal", "failed"],
        [COMPLETED, "shop", "completed"],
    ]


def test_workflows_json(paigeant: Paigeant) -> None:
    """A list; times in UTC, the error with its type."""
    found = read(paigeant("workflows", "--json"))
    assert [(one["correlation_id"], one["name"], one["status"]) for one in found][1] == (FAILED, "refusal", "failed")
    assert found[1]["error"]["type"] == "ValueError"
    assert all(is_utc(one["created_at"]) for one in found)


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--status", "failed"], [FAILED]),
        (["--name", "shop"], [WAITING, COMPLETED]),
        (["-n", "1"], [WAITING]),
        (["--status", "completed", "--name", "refusal"], []),
    ],
)
def test_workflows_narrowed_down(paigeant: Paigeant, options: list[str], ids: list[str]) -> None:
    """Options add up; none found is no error."""
    assert [one["correlation_id"] for one in read(paigeant("workflows", "--json", *options))] == ids


def test_nothing_found_leaves_standard_output_empty(paigeant: Paigeant) -> None:
    """The remark is for people."""
    done = paigeant("workflows", "--name", "nothing")
    assert (done.stdout, done.stderr) == ("", "no workflows\n")


# --- one workflow ----------------------------------------------------------------------------------------------------


def test_workflow_json(paigeant: Paigeant) -> None:
    """All that is known, by a unique beginning of the id."""
    found = read(paigeant("workflow", "0199-c", "--json"))
    assert (found["correlation_id"], found["status"], found["output"]) == (COMPLETED, "completed", "4 paid")
    assert found["variables"] == {"customer": "Ada", "paid": 4}
    first, second = found["steps"]
    assert (first["id"], first["activity"], first["status"], first["attempt"]) == ("1", "price", "completed", 1)
    assert (first["output"], first["error"]) == (4, None)
    assert is_utc(first["started_at"])
    assert is_utc(first["finished_at"])
    assert second["worker"]


def test_workflow_json_of_a_failure(paigeant: Paigeant) -> None:
    """The error is kept whole; the step after it is still ahead."""
    found = read(paigeant("workflow", FAILED, "--json"))
    assert found["error"]["message"].endswith("second line")
    assert found["steps"][0]["error"]["type"] == "ValueError"
    assert (found["steps"][1]["status"], found["steps"][1]["started_at"]) == ("pending", None)


def test_workflow_plain(paigeant: Paigeant) -> None:
    """Facts, then a line for each step; what came from outside stays on its line."""
    shown = paigeant("workflow", FAILED).stdout
    facts, steps = shown.split("\n\n")
    assert f"workflow  {FAILED}" in facts
    assert [line.split()[:3] for line in steps.splitlines()[1:]] == [["1", "refuse", "failed"], ["2", "pay", "pending"]]
    assert "second line" in steps.splitlines()[1]


def test_a_step_ahead_that_nobody_serves_is_pointed_out(paigeant: Paigeant) -> None:
    """Beside the workflow, and not where it is over."""
    done = paigeant("workflow", WAITING, "--json")
    assert read(done)["status"] == "running"
    assert done.stderr.strip().endswith("no live worker serves 'elsewhere' (queue shop.elsewhere)")
    assert paigeant("workflow", FAILED).stderr == ""


def test_ambiguous_beginning(paigeant: Paigeant) -> None:
    """The candidates are named."""
    done = paigeant("workflow", "0199", code=2)
    assert COMPLETED in done.stderr
    assert FAILED in done.stderr
    assert len(done.stderr.splitlines()) <= 6


@pytest.mark.parametrize("command", ["workflow", "result", "events"])
def test_unknown_id(paigeant: Paigeant, command: str) -> None:
    """Exit code 3, on every command that takes an id."""
    assert "'0300'" in paigeant(command, "0300", code=3).stderr


def test_result(paigeant: Paigeant) -> None:
    """JSON on standard output and nothing else."""
    assert paigeant("result", "0199-c").stdout == '"4 paid"\n'


def test_result_of_a_failure(paigeant: Paigeant) -> None:
    """Exit code 1; the reason on standard error, on one line."""
    done = paigeant("result", FAILED, code=1)
    assert done.stdout == ""
    assert "ValueError" in done.stderr
    assert len(done.stderr.splitlines()) == 3


def test_result_that_does_not_come_in_time(paigeant: Paigeant) -> None:
    """Exit code 75."""
    assert "within 0.05 s" in paigeant("result", WAITING, "--timeout", "0.05", code=75).stderr


def test_events_plain(paigeant: Paigeant) -> None:
    """One event a line: time, type, what it is about."""
    lines = [line.split() for line in paigeant("events", COMPLETED).stdout.splitlines()]
    assert [line[1:3] for line in lines] == [
        ["workflow_dispatched", "shop"],
        ["step_completed", "price"],
        ["step_completed", "pay"],
        ["workflow_completed"],
    ]


def test_events_json(paigeant: Paigeant) -> None:
    """One JSON object a line; --after goes on behind an offset; --follow ends with the workflow."""
    first, *rest = paigeant("events", COMPLETED, "--json").stdout.splitlines()
    event = json.loads(first)
    assert event["type"] == "workflow_dispatched"
    assert is_utc(event["at"])
    after = paigeant("events", COMPLETED, "--json", "--follow", "--after", str(event["offset"]))
    assert after.stdout.splitlines() == rest


# --- workers, queues, status -----------------------------------------------------------------------------------------


def test_workers(paigeant: Paigeant) -> None:
    """A worker that has not been heard of lately is gone."""
    (found,) = read(paigeant("workers", "--json"))
    assert (found["id"], found["pid"], found["concurrency"]) == ("host-1-abcd", 1, 7)
    assert found["activities"] == ["price", "pay"]
    assert is_utc(found["seen_at"])
    assert "host-1-abcd" in paigeant("workers").stdout


def test_queues(paigeant: Paigeant) -> None:
    """How many messages wait in each."""
    found = {one["queue"]: one["depth"] for one in read(paigeant("queues", "--json"))}
    assert found["shop.elsewhere"] == 1
    assert found["shop.price"] == 0
    assert re.search(r"^shop\.elsewhere +1$", paigeant("queues").stdout, re.MULTILINE)


def test_queues_of_an_app_on_a_broker_that_cannot_list(paigeant: Paigeant, shop: App) -> None:
    """Those of its activities are asked for."""
    shop.settings = shop.settings.model_copy(update={"broker_url": "memory://"})
    found = read(paigeant("queues", "--json", "-A", "shop"))
    assert [one["queue"] for one in found] == ["shop.pay", "shop.price", "shop.slow"]


def test_status(paigeant: Paigeant) -> None:
    """All of it on one screen."""
    shown = paigeant("status").stdout
    assert re.search(r"^broker +ok +sqlite:///", shown, re.MULTILINE)
    assert len(shown.splitlines()) == 5
    found = read(paigeant("status", "--json"))
    assert found["workflows"] == {"completed": 1, "failed": 1, "running": 1}
    assert (found["broker"]["state"], found["store"]["state"]) == ("ok", "ok")
    assert found["queues"]["shop.elsewhere"] == 1
    told = "no live worker serves 'elsewhere' (queue shop.elsewhere, 1 message)"
    assert told in found["unserved"]
    assert told in paigeant("status").stderr


def test_status_when_the_broker_is_down(paigeant: Paigeant, url: str) -> None:
    """The store is read all the same; the exit code tells."""
    done = paigeant("status", "--json", "-b", "amqp://ada:s3cret@127.0.0.1:1", "--store", url, code=69)
    found = read(done)
    assert (found["broker"]["state"], found["store"]["state"]) == ("unreachable", "ok")
    assert "s3cret" not in done.output


def test_looking_makes_no_database(paigeant: Paigeant, tmp_path: Path) -> None:
    """In a folder where nothing ran, a command that reads says so and leaves nothing behind."""
    missing = f"sqlite:///{tmp_path / 'paigeant.db'}"
    assert "right folder" in paigeant("workflows", "-b", missing).stderr
    assert "not there yet" in paigeant("status", "-b", missing).stdout
    assert paigeant("queues", "-b", missing).stdout == ""
    assert list(tmp_path.iterdir()) == []


# --- what an App and the settings say --------------------------------------------------------------------------------


def test_activities(paigeant: Paigeant, shop: App) -> None:
    """What can be dispatched, with its parameters."""
    found = {one["name"]: one for one in read(paigeant("activities", "-A", "shop", "--json"))}
    assert found["price"]["description"] == "What it costs."
    assert found["price"]["parameters"] == [
        {"name": "item", "type": "str", "required": True},
        {"name": "count", "type": "int", "required": False, "default": 1},
    ]
    assert found["refuse"]["queue"] == "shop.slow"
    assert "item: str, count: int = 1" in paigeant("-A", "shop", "activities").stdout


def test_config(paigeant: Paigeant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting, where it comes from, and no password."""
    monkeypatch.setenv("PAIGEANT_BROKER_URL", "postgresql://ada:s3cret@db/x")
    (tmp_path / ".env").write_text("PAIGEANT_CONCURRENCY=9\n")
    (tmp_path / "pyproject.toml").write_text("[tool.paigeant]\nlease_seconds = 5\n")
    done = paigeant("config", "--json", "--store", "sqlite:///x.db")
    found = {one["setting"]: (one["value"], one["source"]) for one in read(done)}
    assert found["broker_url"] == ("postgresql://ada:***@db/x", "environment")
    assert found["store_url"] == ("sqlite:///x.db", "command line")
    assert found["concurrency"] == (9, ".env")
    assert found["lease_seconds"] == (5, "pyproject.toml")
    assert found["message_limit"][1] == "default"
    assert "s3cret" not in paigeant("config").stdout


def test_config_of_a_broker_under_its_older_name(paigeant: Paigeant, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes from the environment, too."""
    monkeypatch.delenv("PAIGEANT_BROKER_URL", raising=False)
    monkeypatch.setenv("PAIGEANT_TRANSPORT", "redis://h")
    found = {one["setting"]: (one["value"], one["source"]) for one in read(paigeant("config", "--json"))}
    assert found["broker_url"] == ("redis://h", "environment")


def test_config_of_an_app(paigeant: Paigeant, shop: App) -> None:
    """What its code says is in force, and shown as such."""
    shop.settings = shop.settings.model_copy(update={"lease_seconds": 3.0})
    found = {one["setting"]: one for one in read(paigeant("config", "-A", "shop", "--json"))}
    assert found["lease_seconds"] == {"setting": "lease_seconds", "value": 3.0, "source": "App(...)"}
    assert found["app"]["value"] == "shop"


@pytest.mark.parametrize("what", ["message", "routing-slip"])
def test_schema(paigeant: Paigeant, what: str) -> None:
    """JSON Schema, with the dialect."""
    found = read(paigeant("schema", what))
    assert found["$schema"].startswith("https://json-schema.org/")
    assert "itinerary" in json.dumps(found)


# --- terminals and pipes ---------------------------------------------------------------------------------------------


def test_a_terminal_gets_a_table(url: str) -> None:
    """Lines and colours for people; the id stays in one piece."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"PAIGEANT_BROKER_URL": url, "TERM": "xterm", "COLUMNS": "80"}
    environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "paigeant", "workflows"]
    process = subprocess.Popen(command, stdout=theirs, env=environment, stderr=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    while chunk := _chunk(ours):
        shown += chunk
    os.close(ours)
    assert process.wait(30) == 0
    assert "─" in shown.decode()
    assert "\x1b[" in shown.decode()
    assert WAITING in shown.decode()


def _chunk(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux: the other side has closed
        return b""


def test_a_reader_that_goes_away_is_no_error(url: str) -> None:
    """``paigeant ... | head -1`` ends quietly, with what other programs exit with."""
    command = f"{sys.executable} -m paigeant schema message | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() in ("0", "141")
    assert done.stderr == ""


# --- which App -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "environment", "pyproject", "expected"),
    [
        (["-A", "before", "activities"], "", "", "before"),
        (["activities", "-A", "after"], "", "", "after"),
        (["-A", "before", "activities", "-A", "after"], "", "", "after"),
        (["activities"], "from_environment", "from_file", "from_environment"),
        (["activities"], "", "from_file", "from_file"),
        (["activities", "-A", "after"], "from_environment", "from_file", "after"),
        (["workflows"], "from_environment", "", "from_environment"),
    ],
)
def test_where_the_app_is_said(
    paigeant: Paigeant,
    shop: App,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    environment: str,
    pyproject: str,
    expected: str,
) -> None:
    """The command line wins, its last word first; then the environment, then pyproject.toml."""
    targets: list[str] = []
    monkeypatch.setattr("paigeant.cli.loading.load", lambda target: targets.append(target) or shop)
    if environment:
        monkeypatch.setenv("PAIGEANT_APP", environment)
    if pyproject:
        (tmp_path / "pyproject.toml").write_text(f'[tool.paigeant]\napp = "{pyproject}"\n')
    paigeant(*arguments)
    assert targets == [expected]


def test_urls_that_are_said_need_no_app(paigeant: Paigeant, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking into another database does not import the code that is named in the settings."""
    monkeypatch.setenv("PAIGEANT_APP", "no_such_module")
    assert read(paigeant("workflows", "-b", url, "--json"))


def test_activities_that_workers_announce(paigeant: Paigeant, tmp_path: Path) -> None:
    """Of live workers, with their schemas; it needs no App, for it asks the store."""
    url = f"sqlite:///{tmp_path / 'announced.db'}"
    price = Offer(name="price", queue="shop.price", description="What it costs.", input={"type": "object"}, version="1")

    async def announce() -> None:
        app = App("shop", url)
        assert app.store is not None
        about = {"host": "h", "pid": 1, "queues": (), "concurrency": 1, "started_at": 1.0, "seen_at": 1.0}
        for worker in ("one", "two"):
            await app.store.announce(
                WorkerRecord(id=worker, app="shop", activities=("price",), offers=(price,), **about)
            )
        await app.close()

    asyncio.run(announce())
    (found,) = read(paigeant("activities", "--store", url, "--json"))
    assert (found["name"], found["workers"], found["input"], found["version"]) == ("price", 2, {"type": "object"}, "1")
    assert "What it costs." in paigeant("activities", "--announced", "--store", url).stdout

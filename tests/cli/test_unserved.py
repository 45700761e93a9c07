"""Every command that shows a workflow names the step that no live worker serves, with its queue."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from paigeant import App, Worker
from paigeant.workflow import unserved

Paigeant = Callable[..., Result]

SAYS = "no live worker serves 'archive' (queue myapp.archive)"
WORKFLOW = "0500-unserved"


@pytest.fixture
def app(tmp_path: Path) -> App:
    """An App whose worker serves the first of two steps."""
    app = App("myapp", broker=f"sqlite:///{tmp_path / 'paigeant.db'}")

    @app.activity
    async def extract() -> str:
        return "text"

    return app


@pytest.fixture
def paigeant(app: App, in_process: Callable[[str], Paigeant]) -> Paigeant:
    """Runs commands on the broker of a workflow whose first step has completed and whose second nobody serves."""

    async def prepare() -> None:
        await app.dispatch("extract", "archive", id=WORKFLOW)
        await Worker(app, burst=True).run()
        await app.close()

    asyncio.run(prepare())
    return in_process(app.settings.broker_url)


@pytest.mark.parametrize(
    "command",
    [("workflow", WORKFLOW), ("waiting",), ("waiting", WORKFLOW), ("waiting", "--for", "signal"), ("status",)],
)
def test_a_command_that_reads_names_the_step(paigeant: Paigeant, command: tuple[str, ...]) -> None:
    """Once, on standard error, so that standard output stays data."""
    done = paigeant(*command)
    assert done.stderr.count(SAYS.rstrip(")")) == 1
    assert SAYS not in done.stdout


def test_status_says_that_no_worker_runs(paigeant: Paigeant) -> None:
    """With the command that starts one."""
    assert "no worker is running: start one with paigeant worker -A APP" in paigeant("status").stderr


def test_doctor_warns(paigeant: Paigeant) -> None:
    """With advice; the step is not reported twice, by its queue and by its workflow."""
    (found,) = (one for one in json.loads(paigeant("doctor", "--json").stdout)["checks"] if one["name"] == "workers")
    assert found["verdict"] == "warn"
    assert found["found"].startswith(SAYS.rstrip(")"))
    assert "start a worker" in found["advice"]


def test_doctor_and_status_read_the_plans_where_the_broker_cannot_list_its_queues(
    paigeant: Paigeant, app: App, tmp_path: Path
) -> None:
    """The broker here is another database, without any queue."""
    elsewhere = ("-b", f"sqlite:///{tmp_path / 'other.db'}", "--store", app.settings.broker_url)
    Path(tmp_path / "other.db").touch()
    checks = json.loads(paigeant("doctor", "--json", *elsewhere).stdout)["checks"]
    assert [one["found"] for one in checks if one["name"] == "workers"] == [SAYS]
    assert json.loads(paigeant("status", "--json", *elsewhere).stdout)["unserved"] == [SAYS]


def test_a_result_that_times_out_names_the_step(paigeant: Paigeant) -> None:
    """And what to start; the exit code is that of a timeout."""
    done = paigeant("result", WORKFLOW, "--timeout", "0.01", code=75)
    assert SAYS in done.stderr
    assert "paigeant worker -A APP" in done.stderr


def test_a_result_that_is_waited_for_names_the_step_once(terminal) -> None:
    """A few seconds later, on standard error; Ctrl-C ends the waiting."""
    workflow = terminal.dispatch("myapp", "archive")
    waiting = terminal.start("result", workflow)
    waiting.wait_logged(SAYS)
    waiting.send(signal.SIGINT)
    assert waiting.wait() == 130
    assert waiting.log.count(SAYS) == 1


def test_a_step_that_a_worker_serves_is_not_named(paigeant: Paigeant, app: App) -> None:
    """As soon as a worker that has the activity has announced itself."""

    async def look() -> list[str]:
        app.activity(name="archive")(lambda text: text)
        worker = Worker(app)
        ready = asyncio.Event()
        running = asyncio.create_task(worker.run(ready.set))
        await ready.wait()
        assert app.store is not None
        try:
            return await unserved.unserved_running(app.store, await app.store.workers())
        finally:
            worker.stop()
            await running
            await app.close()

    assert asyncio.run(look()) == []

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from paigeant.cli.errors import WrongUsage
from paigeant.cli.output import brief, print_table, took
from paigeant.errors import WorkflowFailed, WorkflowTimeout
from paigeant.runtime import beside, private

if TYPE_CHECKING:
    from paigeant.app import App
    from paigeant.records.workflow import EventRecord, WorkflowRecord
    from paigeant.workflow import Workflow

LEASE = 2.0
"""Seconds a dead worker keeps its message: short, since somebody is watching."""

KILL_AT = 1 / 3
"""The share of the second step that is done when its worker is killed."""

DEADLINE = 60.0

_MODULE = "paigeant.demo.workflow"


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path, exists=True, resolve_path=True))
@click.option(
    "--into",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False, resolve_path=True),
    help="Folder for the database, the logs and the report. Default: a new temporary folder.",
)
def demo(path: Path | None, into: Path | None) -> None:
    """Run a demo workflow and kill its worker halfway.

    The workflow reads the documents of FILE|FOLDER (.md .rst .txt .py; default: paigeant's documentation), finds their
    key terms and writes a report. The demo kills the first worker process with SIGKILL, and a second worker finishes
    the workflow. The exit code is 0 only if the workflow completed and no completed step ran twice.
    """
    source = path or _own_documents()
    folder = _folder(into)
    with _interruptible():
        asyncio.run(Demo(source, folder).run())


def _own_documents() -> Path:
    """The documentation: packed into the wheel, or beside the package in a source tree; else the source itself."""
    import paigeant

    package = Path(paigeant.__file__).parent
    places = (package / "demo" / "documents", package.parent / "docs")
    return next((place for place in places if place.is_dir()), package)


def _folder(into: Path | None) -> Path:
    if into is None:
        return Path(tempfile.mkdtemp(prefix="paigeant-demo-"))
    if into.is_dir() and any(into.iterdir()):
        raise WrongUsage(f"{str(into)!r} is not empty", hint="name an empty folder, or one that does not exist yet")
    private.folder(into)
    return into


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does: with its workers."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- processes -----------------------------------------------------------------------------------------------------


class WorkerProcess:
    """``paigeant worker`` as a process of its own. It ends with this one: see ``paigeant.cli.supervisor``."""

    def __init__(self, name: str, folder: Path, settings: dict[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name.replace(' ', '-')}.log"
        foreign = {key: value for key, value in os.environ.items() if not key.startswith("PAIGEANT_")}
        self._lifeline, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "paigeant", "worker", "-A", _MODULE, "--lifeline", str(theirs.fileno())]
        with private.create(self.log, "wb") as output, theirs:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=foreign | settings | beside.import_path(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"

    async def ready(self) -> None:
        """Wait until it serves.

        Raises:
            WorkflowFailed: it ended instead.
        """
        self._lifeline.setblocking(False)
        said = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._lifeline, 1), DEADLINE)
        if not said:
            raise WorkflowFailed(
                f"{self} did not start: {self._last_words()}", correlation_id="", hint=f"see {self.log}"
            )

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is handed back."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """End the process in good order, or at least end it."""
        self._lifeline.close()
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(3)
        if self._process.poll() is None:
            self.kill()

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it logged nothing"


# --- the show ------------------------------------------------------------------------------------------------------


@dataclass
class Demo:
    """One run of the demo, from the dispatch to what it proves."""

    source: Path
    folder: Path
    workers: list[WorkerProcess] = field(default_factory=list)
    began: float = field(default_factory=time.time)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'paigeant.db'}"

    async def run(self) -> None:
        """Play it.

        Raises:
            WrongUsage: there is nothing to read.
            WorkflowFailed, WorkflowTimeout: the promise was not kept.
        """
        self._announce()
        app = self._app()
        with ExitStack() as ends:
            try:
                async with asyncio.timeout(DEADLINE):
                    workflow = await self._dispatch(app)
                    await self._play(workflow, ends)
                    record = await workflow.record()
                    events = [event async for event in workflow.events()]
            except TimeoutError as error:
                text = f"the demo did not end within {DEADLINE:g} s"
                raise WorkflowTimeout(text, correlation_id="", hint=f"see the logs in {self.folder}") from error
            finally:
                await app.close()
        self._show_steps(record)
        self._prove(record, events)
        self._say_next(record)

    def _app(self) -> App:
        """The sending side knows the steps by name only, as another service would."""
        from paigeant.app import App

        return App("demo", self.url, self.url, queue_prefix="demo", lease_seconds=LEASE, unknown_activities="allow")

    async def _dispatch(self, app: App) -> Workflow:
        from paigeant.wire.slip import ActivitySpec

        read = ActivitySpec(name="read", arguments={"source": str(self.source)})
        workflow = await app.dispatch(read, "rank", "write", variables={"folder": str(self.folder)}, name="documents")
        self._tell(f"dispatched workflow {workflow}: read, rank, write")
        return workflow

    async def _play(self, workflow: Workflow, ends: ExitStack) -> None:
        first = await self._start_worker(ends)
        killed = False
        async for event in workflow.events():
            done = _share_done(event)
            if not killed and done is not None and done >= KILL_AT:
                first.kill()
                killed = True
                self._tell(f"rank is at {done:.0%}: kill -9 {first.pid}", fg="red")
                self._tell(f"{first.name} is dead; its lease ends {LEASE:g} s after its last heartbeat")
                await self._start_worker(ends)
            self._narrate(event)
        if not killed:
            text = "too few documents: the step completed before the demo could kill its worker"
            raise WorkflowFailed(
                text, correlation_id=workflow.correlation_id, hint="paigeant demo FOLDER, with more text"
            )

    async def _start_worker(self, ends: ExitStack) -> WorkerProcess:
        settings = {
            "PAIGEANT_BROKER_URL": self.url,
            "PAIGEANT_STORE_URL": self.url,
            "PAIGEANT_QUEUE_PREFIX": "demo",
            "PAIGEANT_LEASE_SECONDS": str(LEASE),
        }
        worker = WorkerProcess(f"worker {len(self.workers) + 1}", self.folder, settings)
        ends.callback(worker.close)
        self.workers.append(worker)
        await worker.ready()
        self._tell(f"{worker} is ready")
        return worker

    # --- what is said ----------------------------------------------------------------------------------------

    def _announce(self) -> None:
        from paigeant.demo.analysis import KINDS, documents_in

        found, left_out = documents_in(self.source)
        if not found:
            raise WrongUsage(
                f"there are no documents in {self.source}",
                hint=f"the demo reads files of these types: {', '.join(KINDS)}",
            )
        size = sum(one.stat().st_size for one in found) / 1000
        files = "1 file" if len(found) == 1 else f"{len(found)} files"
        more = f", {left_out} more skipped" if left_out else ""
        click.echo(f"Documents  {self.source} ({files}, {size:,.1f} kB{more})")
        click.echo(f"Folder     {self.folder} (database, logs and report; not deleted)\n")

    def _tell(self, text: str, at: float | None = None, **style: Any) -> None:
        seconds = (at or time.time()) - self.began
        click.echo(click.style(f"{seconds:6.2f} s  ", dim=True) + click.style(text, **style))

    def _narrate(self, event: EventRecord) -> None:
        data = event.data
        who = self._name_of(data.get("worker"))
        match event.type:
            case "step_started" if data["deliveries"] > 1:
                self._tell(f"{data['activity']} starts again on {who}, delivery {data['deliveries']}", event.at)
            case "step_completed":
                self._tell(
                    f"{data['activity']} completed by {who}, delivery {data['deliveries']}", event.at, fg="green"
                )
            case "step_failed":
                self._tell(f"{data['activity']} failed on {who}: {brief(data['error'])}", event.at, fg="red")
            case "workflow_completed" | "workflow_failed":
                self._tell(event.type.replace("_", " "), event.at, bold=True)

    def _name_of(self, worker: str | None) -> str:
        return next((one.name for one in self.workers if worker and f"-{one.pid}-" in worker), worker or "nobody")

    def _show_steps(self, record: WorkflowRecord) -> None:
        rows = [
            [
                step.activity,
                step.status,
                self._name_of(step.worker),
                step.deliveries,
                took(step.started_at, step.finished_at),
            ]
            for step in record.steps
        ]
        click.echo()
        print_table(["step", "status", "worker", "deliveries", "took"], rows, none="no steps")

    def _prove(self, record: WorkflowRecord, events: Sequence[EventRecord]) -> None:
        """Check the promise against the history, and against the log that the steps wrote when they started.

        Raises:
            WorkflowFailed: the message says which part of it was broken.
        """
        starts = Counter(line.split()[0] for line in (self.folder / "starts.log").read_text().splitlines())
        ends = Counter(event.data["activity"] for event in events if event.type == "step_completed")
        steps = {step.activity: step for step in record.steps}
        kept = {
            "the workflow completed": record.status == "completed",
            "each step completed once": ends == {"read": 1, "rank": 1, "write": 1} and len(record.steps) == 3,
            "'read', completed before the kill, started once": starts["read"] == 1,
            "'rank', killed in the middle, was delivered twice": starts["rank"] == steps["rank"].deliveries == 2,
            "'rank' was finished by the second worker": self._name_of(steps["rank"].worker) == self.workers[-1].name,
            "'write' started once": starts["write"] == 1,
        }
        click.echo()
        for promise, holds in kept.items():
            click.echo(f"{click.style('yes', fg='green') if holds else click.style('NO ', fg='red')}  {promise}")
        if not all(kept.values()):
            broken = ", ".join(promise for promise, holds in kept.items() if not holds)
            hint = f"the history is in {self.folder}"
            raise WorkflowFailed(f"the demo failed: {broken}", correlation_id=record.correlation_id, hint=hint)

    def _say_next(self, record: WorkflowRecord) -> None:
        click.echo(f"\nThe report   {record.output}\n")
        click.echo("Inspect the workflow:")
        click.echo(f"  paigeant workflow {record.correlation_id} -b {self.url}")
        click.echo(f"  paigeant workflows -b {self.url}")
        click.echo("Create your own workflow:")
        click.echo("  paigeant init")


def _share_done(event: EventRecord) -> float | None:
    """How far the step is that reports its rounds."""
    value = event.data.get("value") if event.type == "step_progressed" else None
    return float(value["round"] / value["of"]) if isinstance(value, dict) else None

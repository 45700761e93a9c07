"""Real worker processes, and what is left in the database when they are done or dead."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from crash import service
from crash.ledger import LEDGER
from crash.service import LOG
from helpers import until
from processes import Process as Started
from processes import start
from sqlalchemy import text

from paigeant.database import Database
from paigeant.records.workflow import TERMINAL

RUNNER = Path(__file__).with_name("run_worker.py")


@dataclass(eq=False)
class Process:
    """A worker process and what it has printed."""

    popen: Started
    output: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def log(self) -> str:
        return self.output.read_text(errors="replace")

    @property
    def is_alive(self) -> bool:
        return self.popen.poll() is None

    def ready(self) -> Process:
        until(lambda: "READY" in self.log or not self.is_alive, 60)
        assert self.is_alive or "KILLING" in self.log, self.log
        return self

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(10)

    def killed(self, deadline: float = 20) -> None:
        """Wait until it has been killed."""
        until(lambda: not self.is_alive, deadline)
        assert self.popen.returncode == -signal.SIGKILL, self.log

    def stop(self) -> None:
        self.signal(signal.SIGTERM)
        assert self.popen.wait(60) == 0, self.log


@dataclass
class Fleet:
    """Workers on one broker and one store, in one folder."""

    folder: Path
    broker: str
    store: str | None = None
    app_name: str = "crash"
    lease: float = 2.0
    settings: dict[str, str] = field(default_factory=dict)
    service: ModuleType = service
    """The module whose ``make_app`` makes the App of the workers."""
    processes: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.app = self.service.make_app(self.broker, self.store, self.app_name, lease_seconds=self.lease)

    @property
    def facts(self) -> Facts:
        return Facts(self)

    # --- processes -----------------------------------------------------------------------------------------------

    def start(self, **settings: str) -> Process:
        """Start a worker; the settings are those of ``run_worker.py`` without ``CRASH_``, and ``PAIGEANT_`` ones."""
        output = self.folder / f"worker-{len(self.processes)}.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PAIGEANT_")}
        environment = {
            **inherited,
            "CRASH_BROKER": self.broker,
            "CRASH_APP": self.app_name,
            "CRASH_SERVICE": self.service.__name__,
            LEDGER: str(self.ledger),
            LOG: str(self.starts_file),
            "PAIGEANT_LEASE_SECONDS": str(self.lease),
            **({"CRASH_STORE": self.store} if self.store else {}),
            **self.settings,
            **{name if name.startswith("PAIGEANT") else f"CRASH_{name}": value for name, value in settings.items()},
        }
        with output.open("wb") as file:
            popen = start(str(RUNNER), cwd=self.folder, env=environment, stdout=file)
        process = Process(popen, output)
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            if process.is_alive:
                process.kill()
        self.app.close_sync()

    @property
    def logs(self) -> str:
        return "\n".join(process.log for process in self.processes)

    @property
    def starts_file(self) -> Path:
        return self.folder / "starts.jsonl"

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.jsonl"

    # --- workflows -----------------------------------------------------------------------------------------------

    def dispatch(self, *steps: Any, count: int = 1) -> list[str]:
        """Dispatch the same steps a number of times; the ids, once the broker has all of them."""

        async def all_of_them() -> list[str]:
            sent = [self.app.dispatch(*steps) for _ in range(count)]
            return [(await workflow).correlation_id for workflow in sent]

        return asyncio.run(all_of_them())

    def status(self, workflow: str) -> str:
        return str(asyncio.run(self.app.workflow(workflow).status()))

    def have_ended(self, workflows: Collection[str]) -> bool:
        wanted = set(workflows)
        rows = self.facts.rows("SELECT correlation_id, status FROM paigeant_workflow")
        return wanted <= {row[0] for row in rows if row[1] in TERMINAL}

    def ended(self, *workflows: str, deadline: float = 30) -> None:
        until(lambda: self.have_ended(workflows), deadline)

    def log_shows(self, what: str, step: str | None = None, pid: int | None = None) -> Callable[[], bool]:
        """A condition: some start or end of this step, by this process, was noted."""

        def is_there() -> bool:
            return any(
                fact["what"] == what and step in (None, fact["step"]) and pid in (None, fact["pid"])
                for fact in self.facts.notes()
            )

        return is_there


@dataclass
class Facts:
    """What the tables and the steps' own log say."""

    fleet: Fleet

    def rows(self, query: str, broker: bool = False) -> list[Any]:
        url = self.fleet.broker if broker or not self.fleet.store else self.fleet.store
        database = Database(url)
        reader = database.reader()
        try:
            return list(reader.execute(text(query)).all())
        finally:
            reader.close()
            database.dispose()

    def one(self, query: str, broker: bool = False) -> Any:
        return self.rows(query, broker)[0][0]

    def notes(self) -> list[dict[str, Any]]:
        return service.notes()

    def starts(self) -> dict[str, list[int]]:
        """For each message the delivery counts with which its step was started, in that order."""
        found: dict[str, list[int]] = defaultdict(list)
        for fact in self.notes():
            if fact["what"] == "start":
                found[fact["message"]].append(fact["deliveries"])
        return dict(found)

    def assert_each_step_completed_once(self, workflows: Sequence[str], steps: int = 3) -> dict[str, Any]:
        """Everything completed, and the end of each step was recorded once; the rows by message id."""
        completed = {
            row.message_id: row
            for row in self.rows("SELECT message_id, correlation_id, step_id, status, deliveries FROM paigeant_step")
            if row.correlation_id in set(workflows)
        }
        ended = self.rows("SELECT correlation_id, status, error FROM paigeant_workflow")
        wrong = {row[0]: (row[1], row[2]) for row in ended if row[0] in set(workflows) and row[1] != "completed"}
        assert wrong == {}
        assert [row for row in completed.values() if row.status != "completed"] == []
        assert len(completed) == len(workflows) * steps
        assert len({(row.correlation_id, row.step_id) for row in completed.values()}) == len(completed)

        told = self.rows("SELECT correlation_id, type, count(*) FROM paigeant_event GROUP BY correlation_id, type")
        counts = {(row[0], row[1]): row[2] for row in told}
        assert {counts[one, "step_completed"] for one in workflows} == {steps}
        assert {counts[one, "workflow_completed"] for one in workflows} == {1}
        return completed

    def assert_each_step_ran_to_its_end_once(
        self, workflows: Sequence[str], steps: int = 3, *, given_back: bool = False
    ) -> None:
        """The promise of issue A: everything completed, nothing completed was run again, one successor of each.

        ``given_back``: a delivery that was given back unharmed is not counted, so its number comes twice.
        """
        completed = self.assert_each_step_completed_once(workflows, steps)
        for message, deliveries in self.starts().items():
            in_turn = sorted(deliveries if given_back else set(deliveries))
            assert deliveries == in_turn, f"{message} was started twice by one delivery: {deliveries}"
            if message in completed:
                assert deliveries[-1] == completed[message].deliveries, f"{message} ran after it had completed"

    def assert_nothing_waits(self) -> None:
        """Nothing is left to deliver. A workflow is seen to end before its last message is acknowledged."""
        until(lambda: self.one("SELECT count(*) FROM paigeant_message", broker=True) == 0)
        assert self.one("SELECT count(*) FROM paigeant_outbox") == 0


@contextmanager
def fleets(folder: Path) -> Iterator[Callable[..., Fleet]]:
    """Makes fleets in this folder, as :class:`Fleet` does; their workers end with the context."""
    made: list[Fleet] = []

    def make(broker: str, store: str | None = None, **options: Any) -> Fleet:
        made.append(Fleet(folder, broker, store, **options))
        return made[-1]

    yield make
    for fleet in made:
        fleet.close()

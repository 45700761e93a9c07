"""Conducts a mixed run: dispatches the shapes, answers what they ask, kills workers and watches the store."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from crash import mixed
from crash.fleet import Fleet, Process
from crash.ledger import Line, Reader
from crash.mixed import Shape
from crash.verdict import Effect, Facts, Letter, Verdict, judge, missing_times
from helpers import until_async
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from paigeant.errors import PaigeantError
from paigeant.records.workflow import TERMINAL

LOOK_EVERY = 0.25
"""Seconds between two looks at the store."""

STEP = 0.05
"""Seconds between two looks at the ledger."""

LIMITS = {"locked": 1, "placed": mixed.PLACES}

PATIENCE = 90.0
"""Seconds without any progress after which the run counts as stuck: more than the longest statement of a store."""


class Watch:
    """Reads the store through a connection of its own, and remembers when it first saw what."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(
            url.replace("postgresql://", "postgresql+psycopg://"), pool_size=1, connect_args=_patience(url)
        )
        self.recorded: dict[str, float] = {}
        self.units: dict[Effect, float] = {}
        self.statuses: dict[str, str] = {}

    def rows(self, query: str) -> list[Any]:
        """Nothing while the store is away."""
        try:
            with self._engine.connect() as connection:
                return list(connection.execute(text(query)).all())
        except SQLAlchemyError:
            return []

    def vacuum(self) -> None:
        """Remove dead rows of PostgreSQL, as far as nobody may still read them."""
        with suppress(SQLAlchemyError), self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM"))

    def look(self) -> None:
        done = self.rows("SELECT message_id FROM paigeant_step WHERE status IN ('completed', 'compensated')")
        units = self.rows("SELECT correlation_id, key FROM paigeant_unit")
        now = time.monotonic()
        for row in done:
            self.recorded.setdefault(row[0], now)
        for row in units:
            self.units.setdefault((row[0], row[1]), now)
        self.statuses |= {row[0]: row[1] for row in self.rows("SELECT correlation_id, status FROM paigeant_workflow")}

    def waits(self) -> list[Any]:
        """Who waits for a signal or an approval: wait, workflow and key."""
        return self.rows(
            "SELECT wait_id, correlation_id, key FROM paigeant_wait WHERE fired_at IS NULL"
            " AND (key LIKE 'signal:%' OR key LIKE 'approval:%')"
        )

    def close(self) -> None:
        self._engine.dispose()


def _patience(url: str) -> dict[str, Any]:
    """A reader does not hang where a server does."""
    return {} if url.startswith("sqlite") else {"connect_timeout": 3, "options": "-c statement_timeout=5000"}


@dataclass
class Conductor:
    """One run. ``trouble`` is called each time that a part of all effects is done, with the number of the time."""

    fleet: Fleet
    shapes: Sequence[Shape]
    troubles: int = 0
    trouble: Callable[[Conductor], Awaitable[None]] | None = None
    pace: float = 0.0
    """Seconds between two dispatches."""
    store: str | None = None
    """Where the test itself reads the store, if not where the workers do."""
    strict: bool = True
    """Whether a body may start again only if a worker was killed."""
    seed: int = 2025
    expected: dict[str, Shape] = field(default_factory=dict)
    killed: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.reader = Reader(self.fleet.ledger)
        self.watch = Watch(self.store or self.fleet.store or self.fleet.broker)
        self._answered: set[str] = set()
        self.done, self.longest_pause = 0, 0.0
        self.began = time.monotonic()

    # --- the run -------------------------------------------------------------------------------------------------

    async def run(self) -> Verdict:
        """Until all workflows have ended, or nothing has gone on for too long."""
        beside = [asyncio.create_task(one) for one in (self._dispatch(), self._watch(), self._answer())]
        try:
            await self._follow(beside)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        self.seconds = time.monotonic() - self.began
        return await self._verdict()

    async def _dispatch(self) -> None:
        for number, shape in enumerate(self.shapes):
            root = f"{self.fleet.app_name}-{number}"
            await self._patiently(lambda: self._send(root, shape))  # noqa: B023 - called at once
            self.expected[root] = shape
            await asyncio.sleep(self.pace)

    async def _send(self, root: str, shape: Shape) -> None:
        await self.fleet.app.dispatch(*shape.steps, id=root, name=shape.name, variables={"root": root})

    async def _patiently(self, what: Callable[[], Awaitable[None]]) -> None:
        """A caller tries again while broker or store are away."""
        while True:
            try:
                return await what()
            except PaigeantError:
                await asyncio.sleep(0.5)

    async def _follow(self, beside: list[asyncio.Task[None]]) -> None:
        total = sum(len(shape.done) for shape in self.shapes)
        thresholds = [number * total // (self.troubles + 1) for number in range(1, self.troubles + 1)]
        progress, last = (0, 0), time.monotonic()
        while not (beside[0].done() and self.is_over()):
            for task in beside:
                if task.done():
                    task.result()
            await asyncio.sleep(STEP)
            self.look()
            pause = time.monotonic() - last
            if progress != (progress := (self.done, self._ended())):
                last = time.monotonic()
                self.longest_pause = max(self.longest_pause, pause)
            elif pause > PATIENCE:
                return
            if thresholds and self.done >= thresholds[0] and self.trouble is not None:
                thresholds.pop(0)
                await self.trouble(self)

    def look(self) -> list[Line]:
        """The new lines of the ledger."""
        new = self.reader.look()
        self.done += sum(line.kind == "done" and not line.unit and line.effect != "tick" for line in new)
        return new

    async def _watch(self) -> None:
        while True:
            await asyncio.to_thread(self.watch.look)
            await asyncio.sleep(LOOK_EVERY)

    def _ended(self) -> int:
        return sum(self.watch.statuses.get(root) in TERMINAL for root in self.expected)

    def is_over(self) -> bool:
        statuses = self.watch.statuses
        return all(statuses.get(root) in TERMINAL for root in self.expected) and not any(
            status not in TERMINAL for status in statuses.values()
        )

    # --- answers -------------------------------------------------------------------------------------------------

    async def _answer(self) -> None:
        """Say to each wait once what it waits for."""
        while True:
            for wait, workflow, key in await asyncio.to_thread(self.watch.waits):
                if wait not in self._answered:
                    with suppress(PaigeantError):
                        await self._say(workflow, key)
                        self._answered.add(wait)
            await asyncio.sleep(LOOK_EVERY)

    async def _say(self, workflow: str, key: str) -> None:
        handle = self.fleet.app.workflow(workflow)
        if key.startswith("signal:"):
            await handle.signal(key.removeprefix("signal:"), f"word for {workflow}")
        else:
            shape = self.expected.get(workflow)
            await handle.decide(shape is None or shape.approves, by="the test", reason=f"word for {workflow}")

    # --- trouble -------------------------------------------------------------------------------------------------

    async def kill(self) -> None:
        """Kill one of the workers with SIGKILL, whatever it is doing."""
        await asyncio.sleep(self.dice.random() * 0.2)
        alive = await until_async(self._alive)
        pid = self.dice.choice(alive)
        os.kill(pid, signal.SIGKILL)
        self.killed[pid] = time.monotonic()

    async def _alive(self) -> list[int]:
        pids = [pid for process in self.fleet.processes if (pid := worker_of(process)) is not None]
        return [pid for pid in pids if pid not in self.killed]

    # --- the verdict ---------------------------------------------------------------------------------------------

    async def _verdict(self) -> Verdict:
        await asyncio.to_thread(self.watch.look)
        self.look()
        rules: dict[str, Any] = {"limits": LIMITS, "values": mixed.VALUES, "lease": self.fleet.lease}
        rules["apart"] = self.fleet.store is not None
        return judge(await self.facts(), self.expected, **rules, strict=self.strict)

    async def facts(self) -> Facts:
        watch = self.watch
        letters = watch.rows("SELECT correlation_id, kind, reason FROM paigeant_dead_letter")
        parents = watch.rows("SELECT correlation_id, parent FROM paigeant_workflow")
        return Facts(
            lines=self.reader.lines,
            statuses=watch.statuses,
            parents={row[0]: row[1] for row in parents},
            letters=[Letter(*row) for row in letters],
            recorded=watch.recorded,
            units=watch.units,
            killed=self.killed,
            shown={root: await self.shown(root) for root, one in self.expected.items() if one.name == "stream"},
        )

    async def shown(self, root: str) -> list[Any]:
        """The values of the stream that count."""
        with suppress(PaigeantError, TimeoutError):
            async with asyncio.timeout(10):
                events = [event async for event in self.fleet.app.workflow(root).events()]
                return [one.data.get("value") for one in events if one.type == "step_yielded" and not one.abandoned]
        return []

    def missing_ticks(self) -> list[str]:
        """What is wrong with the times that the schedule dispatched."""
        ticks = [line for line in self.reader.lines if line.effect == "tick" and line.kind == "done"]
        dues = {line.workflow: float(line.value) for line in ticks}
        return missing_times([*dues.values()], mixed.TICK)

    def early_ticks(self) -> list[str]:
        """Times of the schedule that were dispatched before they had come."""
        offset = time.time() - time.monotonic()
        ticks = [line for line in self.reader.lines if line.effect == "tick" and line.kind == "start"]
        return [f"{line.value} at {line.at + offset}" for line in ticks if float(line.value) > line.at + offset + 0.1]

    def conduct(self, title: str) -> Verdict:
        """Run it, print the figures, and fail if anything was wrong."""
        try:
            verdict = asyncio.run(self.run())
        finally:
            self.watch.close()
        print(self.figures(title, verdict))
        assert verdict.faults == {}, report(verdict)
        assert self.missing_ticks() == []
        assert self.early_ticks() == []
        return verdict

    def figures(self, title: str, verdict: Verdict) -> str:
        faults = {name: len(found) for name, found in verdict.faults.items()}
        return (
            f"{title}: {len(self.expected)} workflows, {len(self.killed)} kills, {verdict.starts} starts,"
            f" {verdict.restarts} of them again ({len(verdict.overdue)} after a lease was over),"
            f" {verdict.open_losers} open effects of losers, {self.seconds:.0f} s,"
            f" {self.longest_pause:.0f} s the longest without progress; faults: {faults or 'none'}"
        )


def worker_of(process: Process) -> int | None:
    """The process id of the worker that this process has forked last."""
    forked = [line.split()[1] for line in process.log.splitlines() if line.startswith("WORKER ")]
    return int(forked[-1]) if forked else None


def some(found: Iterable[str], most: int = 5) -> str:
    """The first few of many texts."""
    listed = [*found]
    return "\n  ".join([*listed[:most], f"... {len(listed) - most} more"] if len(listed) > most else listed)


def report(verdict: Verdict) -> str:
    """What was wrong, shortened."""
    return "\n".join(f"{name} ({len(found)}):\n  {some(found)}" for name, found in verdict.faults.items())

"""The App that the worker processes of the crash tests serve: its steps write down every start and every end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from paigeant import ActivityContext, App, RetryPolicy

LOG = "CRASH_LOG"
"""The variable that names the file in which starts and ends are noted."""


PLACES = 3
"""How many steps of those that share a concurrency limit run at a time."""


def inside(step: str) -> None:
    """Called inside a step; ``run_worker.py`` puts something deadly in its place."""


def note(what: str, ctx: ActivityContext) -> None:
    """One line, by one write to a file opened for appending: whole, whoever else writes and dies."""
    fact = {
        "what": what,
        "workflow": ctx.correlation_id,
        "step": ctx.step.id,
        "message": ctx.message.id,
        "deliveries": ctx.deliveries,
        "pid": os.getpid(),
        "at": time.time(),
    }
    log = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(log, json.dumps(fact).encode() + b"\n")
    finally:
        os.close(log)


async def work(ctx: ActivityContext, seconds: float = 0.02) -> None:
    """Takes a while, and says when it began and ended. It has no output: that would be the next one's ``seconds``."""
    note("start", ctx)
    inside(ctx.step.name)
    await asyncio.sleep(seconds)
    note("end", ctx)


def compute(ctx: ActivityContext, seconds: float = 0.02) -> None:
    """The same in a thread."""
    note("start", ctx)
    time.sleep(seconds)
    note("end", ctx)


async def block(ctx: ActivityContext, seconds: float) -> None:
    """Blocks the event loop, as somebody's mistake would."""
    note("start", ctx)
    time.sleep(seconds)  # noqa: ASYNC251
    note("end", ctx)


async def noop(ctx: ActivityContext) -> None:
    """Only says that it began: what a step costs when it does nothing."""
    note("start", ctx)


async def echo(ctx: ActivityContext, value: int) -> int:
    """Says that it began, and gives what it was given."""
    note("start", ctx)
    await asyncio.sleep(0.01)
    return value


async def fatal(ctx: ActivityContext) -> None:
    """Kills its process, as an out-of-memory killer would."""
    note("start", ctx)
    os.kill(os.getpid(), signal.SIGKILL)


def book(ctx: ActivityContext, fails: bool = False, stubborn: bool = False) -> None:
    """Something that can be taken back."""
    note("start", ctx)
    if fails:
        raise ValueError("no")


def unbook(ctx: ActivityContext, stubborn: bool) -> None:
    """Kills its process the first time that it is run; a stubborn one cannot be taken back at all."""
    starts = [fact for fact in notes() if fact["message"] == ctx.message.id]
    note("undo", ctx)
    if stubborn:
        raise OSError("it will not go")
    if not starts:
        os.kill(os.getpid(), signal.SIGKILL)
    note("undone", ctx)


async def steady(ctx: ActivityContext, seconds: float = 0.02) -> None:
    """Takes a while, and can be taken back."""
    note("start", ctx)
    await asyncio.sleep(seconds)


def unsteady(ctx: ActivityContext) -> None:
    note("undone", ctx)


async def guarded(ctx: ActivityContext, seconds: float = 0.002) -> None:
    """Runs alone, under its lock."""
    note("start", ctx)
    await asyncio.sleep(seconds)
    note("end", ctx)


async def mortal(ctx: ActivityContext) -> None:
    """Runs under the same lock, and kills its process the first time."""
    is_first = not any(fact["workflow"] == ctx.correlation_id for fact in notes())
    note("start", ctx)
    if is_first:
        os.kill(os.getpid(), signal.SIGKILL)
    note("end", ctx)


async def stream(ctx: ActivityContext) -> AsyncIterator[str]:
    """Shows three values; its first run then waits to be killed, or for long enough to lose its lease."""
    is_first = not any(fact["workflow"] == ctx.correlation_id for fact in notes())
    note("start", ctx)
    for number in range(3):
        yield f"{number} of delivery {ctx.deliveries}"
    if is_first:
        await asyncio.sleep(4)
    yield "last"
    note("end", ctx)


def notes() -> list[dict[str, Any]]:
    """What has been noted so far, by whomever."""
    path = Path(os.environ[LOG])
    whole, _, _ = path.read_text().rpartition("\n") if path.exists() else ("", "", "")  # the last line may be half
    return [json.loads(line) for line in whole.splitlines()]


def make_app(broker: str, store: str | None = None, name: str = "crash", **options: Any) -> App:
    app = App(name, broker, store, **options)
    for step in ("first", "second", "third"):
        app.activity(name=step)(work)
    app.activity(compute)
    app.activity(block)
    app.activity(noop)
    app.activity(echo)
    app.activity(stream)
    app.activity(fatal)
    app.activity(book).compensate(retry=RetryPolicy(attempts=2, delay=0.01))(unbook)
    app.activity(guarded, lock="guarded")
    app.activity(mortal, lock="guarded")
    app.activity(name="placed", concurrency=PLACES)(guarded)
    app.activity(name="placed_mortal", concurrency={"placed": PLACES})(mortal)
    app.activity(steady).compensate(unsteady)
    if "CRASH_AGENT" in os.environ:
        from agents import buyer, clerk, weather

        app.activity(buyer)
        app.activity(weather)
        app.activity(clerk)
    return app


CHAIN = ("first", "second", "third")

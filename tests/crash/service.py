"""The App that the worker processes of the crash tests serve: its steps write down every start and every end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from typing import Any

from paigeant import ActivityContext, App

LOG = "CRASH_LOG"
"""The variable that names the file in which starts and ends are noted."""


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


async def fatal(ctx: ActivityContext) -> None:
    """Kills its process, as an out-of-memory killer would."""
    note("start", ctx)
    os.kill(os.getpid(), signal.SIGKILL)


def make_app(broker: str, store: str | None = None, name: str = "crash", **options: Any) -> App:
    app = App(name, broker, store, **options)
    for step in ("first", "second", "third"):
        app.activity(name=step)(work)
    app.activity(compute)
    app.activity(block)
    app.activity(noop)
    app.activity(fatal)
    return app


CHAIN = ("first", "second", "third")

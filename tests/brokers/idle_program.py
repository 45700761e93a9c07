"""A program that does nothing, in one of the roles that programs with paigeant have: its first argument."""

from __future__ import annotations

import asyncio
import os
import sys

from paigeant import App, Worker

app = App("idle", queue_prefix=os.environ["IDLE_PREFIX"])


@app.activity
async def served(name: str = "") -> None: ...


@app.activity(queue="nowhere")
async def unserved() -> None:
    """Nobody runs it: the worker serves the other one only."""


async def dispatcher() -> None:
    """Dispatches once."""
    await app.dispatch(unserved)
    print("READY", flush=True)
    await asyncio.sleep(3600)


async def caller() -> None:
    """Waits for a result that does not come."""
    workflow = await app.dispatch(unserved)
    print("READY", flush=True)
    await workflow.result()


async def worker() -> None:
    """Waits for messages."""
    await Worker(app, only=["served"]).run(lambda: print("READY", flush=True))


async def keeper() -> None:
    """A worker that looks after a lock and a schedule too."""
    app.activity(name="guarded", lock=True)(served.function)
    app.schedule("yearly", served, cron="0 0 1 1 *")
    await Worker(app, only=["served", "guarded"]).run(lambda: print("READY", flush=True))


asyncio.run({"dispatcher": dispatcher, "caller": caller, "worker": worker, "keeper": keeper}[sys.argv[1]]())

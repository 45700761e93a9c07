"""One worker in this process, from the first line to the exit code."""

from __future__ import annotations

import asyncio
import atexit
import gc
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import NoReturn

from paigeant.cli.errors import DONE, explain
from paigeant.cli.stopping import Stopping, end_now
from paigeant.runtime.io_thread import call_in
from paigeant.worker import Worker
from paigeant.worker.health import served

_GARBAGE = (50_000, 20, 20)
"""After how many new objects the garbage collector looks for circles: what the messages that are held at a time consist
of does not make it look, as a hop leaves no circle behind."""

_TIDYING = 2.0
"""Seconds that tasks which activities left behind get to end."""


def serve(
    make: Callable[[], Worker], stopping: Stopping, address: tuple[str, int] | None = None, *, traceback: bool = False
) -> NoReturn:
    """Run the worker until it ends or a signal stops it, then end the process. Serve its health on the address.

    The process never waits for threads. The worker has released the message of a plain function that still runs, so
    another worker can claim it. Functions that are registered with :mod:`atexit` run.
    """
    try:
        asyncio.Runner().run(_run(make, stopping, address))
        code = DONE
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the edge of the program
        code = explain(error, traceback=traceback)
    # The runner is not closed: closing it waits for threads.
    with suppress(Exception):
        atexit._run_exitfuncs()
    logging.shutdown()
    end_now(code)


async def _run(make: Callable[[], Worker], stopping: Stopping, address: tuple[str, int] | None) -> None:
    worker = make()
    loop = asyncio.get_running_loop()
    stopping.attach(partial(call_in, loop, worker.stop))
    try:
        async with AsyncExitStack() as stack:
            if worker.health is not None and address is not None:
                await stack.enter_async_context(served(worker.health, *address))
            await worker.run(partial(_ready, stopping))
    finally:
        await worker.app.close()
        await _tidy()


def _ready(stopping: Stopping) -> None:
    spare_garbage_collector()
    stopping.say_ready()


def spare_garbage_collector() -> None:
    """Have it pass over what will stay anyway: modules, classes, activities. It is an eighth of a hop."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE)


async def _tidy() -> None:
    """End what activities left running."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_TIDYING)

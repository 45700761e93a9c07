"""A process that redrives a dead letter and kills itself on the way: ``redriver.py BROKER STORE PREFIX POINT``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paigeant import ActivityContext, App
from paigeant.dead_letters.stored import StoredLetters
from paigeant.dispatch.timers import Timers
from paigeant.stores import letters
from paigeant.transports.kombu import KombuTransport


def make_app(broker: str, store: str, prefix: str) -> App:
    """An App whose step fails until there is a file; each run is a line of another one."""
    app = App("redrive", broker, store, queue_prefix=prefix, lease_seconds=1.0)

    @app.activity
    def work(ctx: ActivityContext) -> int:
        with Path("runs").open("a") as runs:
            runs.write(f"{ctx.message.epoch}\n")
        if not Path("repaired").exists():
            raise ConnectionError("down")
        return ctx.message.epoch

    return app


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(owner: Any, name: str, *, after: bool) -> None:
    """Die where this begins, or where it has returned and nobody has heard of it."""
    function: Callable[..., Any] = getattr(owner, name)

    if asyncio.iscoroutinefunction(function):

        async def deadly_async(*args: Any, **options: Any) -> Any:
            if after:
                await function(*args, **options)
            die()

        setattr(owner, name, deadly_async)
    else:

        def deadly(*args: Any, **options: Any) -> Any:
            if after:
                function(*args, **options)
            die()

        setattr(owner, name, deadly)


POINTS: dict[str, Callable[[], None]] = {
    "before the transaction": lambda: dying(letters, "take", after=False),
    "in the transaction": lambda: dying(letters, "take", after=True),
    "after the commit": lambda: dying(StoredLetters, "announce", after=False),
    "taken to be sent": lambda: dying(Timers, "send", after=False),
    "sent": lambda: dying(Timers, "send", after=True),
    "before settling": lambda: dying(KombuTransport, "settle", after=False),
    "settled": lambda: dying(KombuTransport, "settle", after=True),
}


async def main(broker: str, store: str, prefix: str, point: str) -> None:
    app = make_app(broker, store, prefix)
    (letter,) = await app.dead_letters.list()
    POINTS[point]()
    await app.dead_letters.redrive(letter.id)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""One worker process of a crash test: everything it needs to know is in the environment.

``CRASH_AT`` names the instruction at which it kills itself, ``CRASH_STEP`` the step it does that for. With
``CRASH_AGAIN`` a new process takes the place of one that was killed, at once, as it need not import anything.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import service

from paigeant import PaigeantMessage, Worker
from paigeant.dispatch import Dispatcher
from paigeant.runner import Runner
from paigeant.stores.history import SqlLedger
from paigeant.stores.sql import SqlStore
from paigeant.transport import Delivery
from paigeant.transports.amqp import AmqpPump
from paigeant.transports.settlement import Settlement
from paigeant.transports.sql_queue import SqlQueue

_PR_SET_PDEATHSIG = 1

STEP = os.environ.get("CRASH_STEP", "second")


def die() -> None:
    print("KILLING MYSELF", os.environ["CRASH_AT"], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def carries(delivery: Delivery | None) -> bool:
    return delivery is not None and PaigeantMessage.from_json(delivery.body).step.name == STEP


def before(owner: type, name: str, is_it: Callable[..., bool]) -> None:
    """Die where the method is about to begin."""
    method = getattr(owner, name)

    def deadly(self: Any, *args: Any, **kwargs: Any) -> Any:
        if is_it(self, *args, **kwargs):
            die()
        return method(self, *args, **kwargs)

    setattr(owner, name, deadly)


def after(owner: type, name: str, is_it: Callable[..., bool]) -> None:
    """Die where the method has returned and nobody has heard of it."""
    method = getattr(owner, name)

    def deadly(self: Any, *args: Any, **kwargs: Any) -> Any:
        matches = is_it(self, *args, **kwargs)
        result = method(self, *args, **kwargs)
        if matches:
            die()
        return result

    setattr(owner, name, deadly)


def acknowledges(pump: AmqpPump) -> bool:
    return any(map(carries, pump._done.values()))


def settles(_: object, settlements: list[Settlement], limit: float = 0.0) -> bool:
    return any(carries(one.delivery) and one.release_after is None for one in settlements)


def releases(_: object, settlements: list[Settlement], limit: float = 0.0) -> bool:
    return any(carries(one.delivery) and one.release_after is not None for one in settlements)


def tells(_: object, connection: Any, events: list[Any]) -> bool:
    return any(event.type == "step_completed" and event.activity == STEP for event in events)


def arm_record() -> None:
    """Die when the store has the outcome and the broker has not."""
    record = SqlStore.record

    async def deadly(self: Any, events: Any, outbox: Any = (), cause: Any = None) -> bool:
        accepted = await record(self, events, outbox, cause)
        if tells(self, None, events):
            die()
        return accepted

    SqlStore.record = deadly  # type: ignore[method-assign]


def arm_unit() -> None:
    """Die when a unit of an agent is written down and nobody has used it."""
    write = SqlStore.write_unit

    async def deadly(self: Any, turn: Any, unit: Any) -> bool:
        await write(self, turn, unit)
        die()
        return True

    SqlStore.write_unit = deadly  # type: ignore[method-assign]


def arm_inside() -> None:
    service.inside = lambda step: die() if step == STEP else None


POINTS: dict[str, Callable[[], None]] = {
    "claimed": lambda: before(Runner, "admit", lambda _, delivery, *rest: carries(delivery)),
    "inside": arm_inside,
    "unit": arm_unit,
    "before settling": lambda: before(Dispatcher, "carry_out", lambda _, plan, delivery, *a, **k: carries(delivery)),
    "in the transaction": lambda: after(SqlLedger, "write", tells),
    "after the commit": lambda: after(SqlQueue, "exchange", settles),
    "during release": lambda: after(SqlQueue, "_settle", releases),
    "after release": lambda: after(SqlQueue, "exchange", releases),
    # with broker and store apart
    "recorded": arm_record,
    "published": lambda: after(SqlQueue, "_settle", settles),
    "acknowledged": lambda: after(SqlQueue, "exchange", settles),
    # with a broker that has no transactions
    "published, not answered": lambda: after(AmqpPump, "exchange", settles),
    "answered, not acknowledged": lambda: before(AmqpPump, "finish", acknowledges),
    "written to the socket": lambda: after(AmqpPump, "finish", acknowledges),
}


async def main() -> None:
    app = service.make_app(os.environ["CRASH_BROKER"], os.environ.get("CRASH_STORE"), os.environ["CRASH_APP"])
    worker = Worker(
        app,
        concurrency=int(os.environ.get("CRASH_CONCURRENCY", "10")),
        only=tuple(filter(None, os.environ.get("CRASH_ONLY", "").split(","))),
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run(started=lambda: print("READY", worker.name, flush=True))


def again() -> None:
    """Fork a worker until one ends by itself; here nothing runs but this loop."""
    while True:
        worker = os.fork()
        if not worker:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            return
        signal.signal(signal.SIGTERM, lambda number, _, worker=worker: os.kill(worker, number))
        _, status = os.waitpid(worker, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(os.waitstatus_to_exitcode(status))
        print("KILLED", worker, flush=True)


if __name__ == "__main__":
    if point := os.environ.get("CRASH_AT"):
        POINTS[point]()
    if os.environ.get("CRASH_AGENT"):
        import agents  # noqa: F401 - once, before any process is forked
    if os.environ.get("CRASH_AGAIN"):
        again()
    asyncio.run(main())
    sys.exit(0)

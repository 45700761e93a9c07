"""One worker process of a crash test: everything it needs to know is in the environment.

``CRASH_AT`` names the instruction at which it kills itself, ``CRASH_STEP`` the step it does that for. With
``CRASH_AGAIN`` a new process takes the place of one that was killed, at once, as it need not import anything.
``CRASH_SERVICE`` names the module whose App is served, ``CRASH_CLOCK`` the seconds by which the wall clock jumps two
seconds after the start. With ``CRASH_DOUBT`` it loses the store's answer to the end of the step.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import service

from paigeant import PaigeantMessage, Worker
from paigeant.dispatch.settling import Settling
from paigeant.errors import StoreError
from paigeant.runner import Runner
from paigeant.stores.history import SqlLedger
from paigeant.stores.sql import SqlStore
from paigeant.transport import Delivery
from paigeant.transports.amqp.inlet import Inlet
from paigeant.transports.amqp.pump import AmqpPump
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.sql.queue import SqlQueue

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


def arm_acknowledgement(armed: Callable[[type, str, Callable[..., bool]], None]) -> None:
    """Die when RabbitMQ has confirmed what the step leads to: ``armed`` says on which side of the acknowledgement."""
    settle, settled = Inlet.settle, []

    def noting(self: Inlet, delivery: Any) -> None:
        settle(self, delivery)
        settled.append(carries(delivery))

    Inlet.settle = noting  # type: ignore[method-assign]
    armed(AmqpPump, "finish", lambda _: any(settled))


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


def doubt(when: str) -> None:
    """Break the connection at the first try to record the end of the step, before or after the store has it.

    The process then freezes just before its second try, until somebody continues it.
    """
    record, tries = SqlStore.record, count(1)

    async def doubtful(self: Any, events: Any, outbox: Any = (), cause: Any = None) -> bool:
        number = next(tries) if tells(self, None, events) else 0
        if number == 2:
            print("FREEZING", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)
        if number != 1 or when == "after":
            accepted = await record(self, events, outbox, cause)
        if number == 1:
            raise StoreError("the connection broke")
        if number == 2:
            print("ANSWERED", accepted, flush=True)
        return accepted

    SqlStore.record = doubtful  # type: ignore[method-assign]


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
    "before settling": lambda: before(Settling, "carry_out", lambda _, plan, delivery, *a, **k: carries(delivery)),
    "in the transaction": lambda: after(SqlLedger, "write", tells),
    "after the commit": lambda: after(SqlQueue, "exchange", settles),
    "during release": lambda: after(SqlQueue, "_settle", releases),
    "after release": lambda: after(SqlQueue, "exchange", releases),
    "rewritten": lambda: after(SqlQueue, "exchange", settles),
    "before noting": lambda: before(SqlQueue, "note", lambda *_: True),
    "noted": lambda: after(SqlQueue, "note", lambda *_: True),
    # with broker and store apart
    "recorded": arm_record,
    "published": lambda: after(SqlQueue, "_settle", settles),
    "acknowledged": lambda: after(SqlQueue, "exchange", settles),
    # with a broker that has no transactions
    "published, not answered": lambda: after(AmqpPump, "exchange", settles),
    "answered, not acknowledged": lambda: arm_acknowledgement(before),
    "written to the socket": lambda: arm_acknowledgement(after),
}


def jump(shift: float, after: float) -> None:
    """Put the wall clock of this process wrong by so many seconds, after a while."""
    true, true_ns, at = time.time, time.time_ns, time.monotonic() + after
    time.time = lambda: true() + (shift if time.monotonic() >= at else 0.0)
    time.time_ns = lambda: true_ns() + (int(shift * 1e9) if time.monotonic() >= at else 0)


def served() -> Any:
    """The module whose App is served: ``service``, or the one that ``CRASH_SERVICE`` names."""
    name = os.environ.get("CRASH_SERVICE", "crash.service")
    return service if name == "crash.service" else import_module(name)


async def main() -> None:
    app = served().make_app(os.environ["CRASH_BROKER"], os.environ.get("CRASH_STORE"), os.environ["CRASH_APP"])
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
            print("WORKER", os.getpid(), flush=True)
            return
        signal.signal(signal.SIGTERM, lambda number, _, worker=worker: os.kill(worker, number))
        _, status = os.waitpid(worker, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(os.waitstatus_to_exitcode(status))
        print("KILLED", worker, flush=True)


if __name__ == "__main__":
    sys.path.insert(1, str(Path(__file__).parent.parent))  # modules of this folder are crash.NAME, as in the tests
    if point := os.environ.get("CRASH_AT"):
        POINTS[point]()
    if when := os.environ.get("CRASH_DOUBT"):
        doubt(when)
    if os.environ.get("CRASH_AGENT"):
        import agents  # noqa: F401 - once, before any process is forked
    served()  # once, before any process is forked
    if os.environ.get("CRASH_AGAIN"):
        again()
    if shift := os.environ.get("CRASH_CLOCK"):
        jump(float(shift), after=2.0)
    asyncio.run(main())
    sys.exit(0)

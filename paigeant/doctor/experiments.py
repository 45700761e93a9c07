"""The experiments of ``paigeant doctor --prove``: each causes one fault on purpose and reports the result.

Each experiment is a coroutine function that takes the bench; its name is the promise that it tests. It records in
``bench.measured`` what decides the tier and returns one finding. The finding is a failure if the broker does less than
its transport declares.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from paigeant.doctor.bench import QUICKLY, Bench, Process, is_accepted, message
from paigeant.doctor.finding import Finding, Verdict
from paigeant.doctor.tier import compared
from paigeant.errors import PaigeantError
from paigeant.events import Event, StepEnded, StepStarted
from paigeant.transport import Durability, Outgoing

Experiment = Callable[[Bench], Awaitable[Finding]]

DELAY = 1.0
"""Delay of the delayed message, in seconds."""

_BRIEFLY = 1.0
_MEGABYTE = bytes(range(256)) * 4096


def _as_declared(bench: Bench) -> Verdict:
    """Return the verdict for a loss: a warning if the transport declares best effort, otherwise a failure."""
    is_lax = bench.features.durability in (Durability.BEST_EFFORT, Durability.VOLATILE)
    return Verdict.WARN if is_lax else Verdict.FAIL


# --- when a process fails --------------------------------------------------------------------------------------------


async def crash(bench: Bench) -> Finding:
    """Another process takes a message and is killed with SIGKILL."""
    queue, measured = bench.queue("q"), bench.measured
    async with bench.other_process() as victim:
        await bench.send(queue, "m")
        patience = _BRIEFLY if bench.features.durability is Durability.VOLATILE else QUICKLY
        measured.is_shared = await victim.ask("take", queue=queue, patience=patience) is not None
        if not measured.is_shared:
            measured.comes_again = False
            await bench.drain(queue)
            return Finding("crash", _as_declared(bench), "another process never saw the message")
        killed_at = await victim.kill()
        again = await bench.take(queue, bench.patience)
    took = time.monotonic() - killed_at
    measured.comes_again = again is not None
    if again is None:
        measured.loses = True
        found = f"the message of a killed process was not redelivered within {bench.patience:g} s"
        return Finding("crash", _as_declared(bench), found)
    measured.deliveries = again.deliveries
    await is_accepted(bench.here, again)
    found = f"the message of a killed process was redelivered after {took:.2f} s"
    if took > bench.promised:
        advice = f"the promise is {bench.promised:g} s; is this machine very busy?"
        return Finding("crash", Verdict.WARN, found, advice)
    return Finding("crash", Verdict.OK, found)


async def delivery_count(bench: Bench) -> Finding:
    """Report the delivery count of the second delivery in :func:`crash`."""
    deliveries, declared = bench.measured.deliveries, bench.features.delivery_count
    if deliveries is None:
        verdict = Verdict.FAIL if declared else Verdict.OK
        return Finding("delivery count", verdict, "nothing was delivered twice")
    counts = deliveries == 2
    found = f"the second delivery says {deliveries}" + ("" if counts else ": a step that kills workers is not detected")
    return Finding("delivery count", compared(declared, counts), found)


async def disconnect(bench: Bench) -> Finding:
    """Another process claims a message, loses its connections, and settles the message nevertheless."""
    queue, following = bench.queue("q"), bench.queue("next")
    if not bench.measured.is_shared:
        return Finding("disconnect", Verdict.OK, "not measured: no other process sees a message")
    async with bench.other_process() as other:
        await bench.here.declare(following)
        await bench.send(queue, "m")
        await other.ask("take", queue=queue, patience=QUICKLY)
        cut = await other.ask("cut")
        if not cut:
            await other.ask("settle", queue=following, name="after")
            return Finding("disconnect", Verdict.OK, "not measured: the broker is reached without a network")
        accepted = await other.ask("settle", queue=following, name="after")
        again = await bench.take(queue, bench.promised if accepted else bench.patience)
        if again is not None:
            await is_accepted(bench.here, again, [message(following, "again")])
    return _disconnected(
        bench, accepted, again is not None, await bench.drain(following, accepted + (again is not None))
    )


def _disconnected(bench: Bench, accepted: bool, came_again: bool, followed: Sequence[str]) -> Finding:
    expected = (["after"] if accepted else []) + (["again"] if came_again else [])
    if sorted(followed) != sorted(expected) or not expected:
        bench.measured.loses = True
        found = f"after a cut connection {len(expected)} successors were accepted and {len(followed)} arrived"
        return Finding("disconnect", _as_declared(bench), found)
    if accepted and came_again:
        found = "after a cut connection the message was settled and redelivered: two successors"
        return Finding("disconnect", compared(bench.features.fenced, False), found)
    how = "settled over a new connection" if accepted else "refused to the old holder and redelivered"
    return Finding("disconnect", Verdict.OK, f"after a cut connection the message was {how}: one successor")


async def fence(bench: Bench) -> Finding:
    """Another process claims a message and is paused for longer than its lease; then two processes settle it."""
    queue, following = bench.queue("q"), bench.queue("next")
    if not bench.measured.is_shared:
        return Finding("fence", compared(bench.features.fenced, False), "not measured: no other process sees a message")
    async with bench.other_process() as stale:
        await bench.here.declare(following)
        await bench.send(queue, "m")
        await stale.ask("take", queue=queue, patience=QUICKLY)
        stale.freeze()
        heir = await bench.take(queue, bench.patience)
        accepted = heir is not None and await is_accepted(bench.here, heir, [message(following, "heir")])
        stale.thaw()
        late = await stale.ask("settle", queue=following, name="stale")
    followed = await bench.drain(following)
    return _fenced(bench, heir is not None, accepted, late, followed)


def _fenced(bench: Bench, had_heir: bool, accepted: bool, late: bool, followed: Sequence[str]) -> Finding:
    declared = bench.features.fenced
    if not had_heir:
        bench.measured.is_fenced = False
        found = f"a paused process kept its message: no other process received it within {bench.patience:g} s"
        return Finding("fence", compared(declared, False), found)
    bench.measured.is_fenced = accepted and not late and list(followed) == ["heir"]
    if bench.measured.is_fenced:
        return Finding("fence", Verdict.OK, "two processes had the message: the late one was refused, one successor")
    found = f"two processes had the message: {len(followed)} successors"
    return Finding("fence", compared(declared, False), found)


async def long_step(bench: Bench) -> Finding:
    """A live process holds a message for three leases while another consumer waits for it."""
    queue = bench.queue("q")
    async with bench.other_transport() as holder:
        await holder.send([message(queue, "m")])
        claimed = await bench.take(queue, QUICKLY, holder)
        if claimed is None:
            return Finding("long step", _as_declared(bench), "the message never arrived")
        stolen = await bench.take(queue, 3 * bench.lease_seconds)
        if stolen is not None:
            await is_accepted(bench.here, stolen)
        accepted = await is_accepted(holder, claimed)
    if stolen is not None or not accepted:
        return Finding("long step", _as_declared(bench), "a step longer than the lease was started twice")
    return Finding("long step", Verdict.OK, "a step of three leases was started once")


# --- publishing ------------------------------------------------------------------------------------------------------


async def confirm(bench: Bench) -> Finding:
    """Another process deletes the queue between two publishes."""
    queue = bench.queue("q")
    await bench.send(queue, "before")
    async with bench.other_transport() as somebody:
        await somebody.delete(queue)
    try:
        await bench.send(queue, "after")
    except PaigeantError as error:
        return Finding("confirm", Verdict.OK, f"a publish to a deleted queue raises an error: {error}")
    arrived = "after" in await bench.drain(queue)
    if arrived:
        return Finding("confirm", Verdict.OK, "a publish to a deleted queue creates it again: nothing was lost")
    bench.measured.loses = True
    return Finding("confirm", _as_declared(bench), "a publish to a deleted queue is lost without an error")


async def atomic(bench: Bench) -> Finding:
    """Make the record of a settlement fail: the broker must then publish and acknowledge nothing."""
    if not bench.features.joins_store:
        bench.measured.is_atomic = False
        return Finding("atomic", Verdict.OK, "not measured: the store is separate and is written first")
    queue, following = bench.queue("q"), bench.queue("next")
    async with bench.other_transport() as transport:
        transport.enlist(_Refusing(transport.url))
        await transport.declare(following)
        await transport.send([message(queue, "m")])
        claimed = await bench.take(queue, QUICKLY, transport)
        if claimed is None:
            return Finding("atomic", Verdict.FAIL, "the message never arrived")
        try:
            await transport.settle(claimed, [message(following, "too early")], record=[_some_event()])
            was_rejected = False
        except PaigeantError:
            was_rejected = True
        accepted = was_rejected and await is_accepted(transport, claimed, [message(following, "good")])
    followed = await bench.drain(following)
    bench.measured.is_atomic = was_rejected and accepted and followed == ["good"]
    if bench.measured.is_atomic:
        return Finding("atomic", Verdict.OK, "a failed record rolled back the publish and the acknowledgement")
    return Finding("atomic", Verdict.FAIL, f"a record failed, yet {len(followed)} messages followed")


class _Refusing:
    """A ledger whose every write fails."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url

    def write(self, connection: Any, events: Sequence[Event]) -> None:
        connection.exec_driver_sql("SELECT 1")
        raise ValueError("this record fails on purpose")

    def finished(self, connection: Any, message_ids: Sequence[str]) -> Collection[str]:
        return ()

    def recorded(self, connection: Any, ends: Sequence[StepEnded]) -> bool:
        return False


def _some_event() -> Event:
    about = {"correlation_id": "doctor", "message_id": "doctor", "step_id": "1", "activity": "doctor"}
    return StepStarted(**about, at=0.0, attempt=1, worker="doctor")  # type: ignore[arg-type]


async def duplicates(bench: Bench) -> Finding:
    """Publish the same id twice while the first message still waits."""
    queue = bench.queue("q")
    for _ in range(2):
        await bench.send(queue, "m")
    copies = len(await bench.drain(queue))
    if copies == 0:
        return Finding("duplicates", _as_declared(bench), "a message that was published twice never arrived")
    found = "became one message" if copies == 1 else f"became {copies} messages with the same id"
    return Finding("duplicates", compared(bench.features.dedupes, copies == 1), f"the same id published twice {found}")


async def size(bench: Bench) -> Finding:
    """Send one megabyte and receive it again."""
    queue, started = bench.queue("q"), time.monotonic()
    await bench.here.send([Outgoing(queue=queue, body=_MEGABYTE, id=f"{queue}/large")])
    delivery = await bench.take(queue, QUICKLY)
    took = time.monotonic() - started
    if delivery is None or delivery.body != _MEGABYTE:
        found = "a message of 1 MB " + ("never arrived" if delivery is None else "arrived damaged")
        return Finding("size", _as_declared(bench), found)
    await is_accepted(bench.here, delivery)
    return Finding("size", Verdict.OK, f"a message of 1 MB came back intact in {took:.2f} s")


# --- order and time --------------------------------------------------------------------------------------------------


async def priority(bench: Bench) -> Finding:
    """Publish an urgent message after an ordinary one and see which arrives first."""
    queue = bench.queue("q")
    await bench.send(queue, "later", priority=0)
    await bench.send(queue, "urgent", priority=9)
    order = await bench.drain(queue, 2)
    if len(order) != 2:
        return Finding("priority", _as_declared(bench), f"of two messages {len(order)} arrived")
    has = order[0] == "urgent"
    found = "urgent messages go first" if has else "first come, first served: the broker ignores priorities"
    return Finding("priority", compared(bench.features.priority, has), found)


async def delay(bench: Bench) -> Finding:
    """Another process publishes a delayed message and is killed once the broker has the message."""
    queue = bench.queue("q")
    await bench.here.declare(queue)
    if not bench.measured.is_shared:
        return Finding("delay", compared(bench.features.delay, False), "not measured: no other process sees a message")
    async with bench.other_process() as sender:
        await _warm(sender, bench)
        asked_at = time.monotonic()
        sending = asyncio.ensure_future(sender.ask("send", queue=queue, name="m", delay=DELAY))
        await asyncio.wait({sending}, timeout=DELAY / 2)
        is_native = sending.done()
        if is_native:
            await sender.kill()
        delivery = await bench.take(queue, DELAY + QUICKLY)
        took = time.monotonic() - asked_at
        await asyncio.gather(sending, return_exceptions=True)
    if delivery is not None:
        await is_accepted(bench.here, delivery)
    return _delayed(bench, is_native, took if delivery is not None else None)


async def _warm(sender: Process, bench: Bench) -> None:
    """Connect the sender, so that a slow connection does not look like a broker without delays."""
    queue = bench.queue("warm")
    await sender.ask("send", queue=queue, name="m")
    await bench.drain(queue)


def _delayed(bench: Bench, is_native: bool, took: float | None) -> Finding:
    declared = bench.features.delay
    if took is None:
        return Finding("delay", _as_declared(bench), "a delayed message was lost with its sender")
    if took < DELAY - 0.01:
        return Finding("delay", Verdict.FAIL, f"a delay of {DELAY:g} s ended after {took:.2f} s")
    kept = "kept by the broker although its sender was killed" if is_native else "held by its sender (at most 5 s)"
    return Finding("delay", compared(declared, is_native), f"{DELAY:g} s took {took:.2f} s, {kept}")


FIRST: Sequence[Experiment] = (crash, delivery_count)
"""Experiments on which the others depend."""

OTHERS: Sequence[Experiment] = (
    disconnect,
    fence,
    long_step,
    atomic,
    confirm,
    duplicates,
    delay,
    priority,
    size,
)
"""Experiments that may run at the same time."""

ABOUT_LEASES: Sequence[Experiment] = (crash, disconnect, fence, long_step)
"""Experiments that lose or renew a short lease. The others use a lease long enough for a busy machine."""

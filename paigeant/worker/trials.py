"""Runs suspects alone, records evidence for and against them, and condemns the messages that kill their process."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

import structlog

from paigeant.errors import PaigeantError
from paigeant.events import ErrorInfo
from paigeant.transport import BaseTransport, Delivery, Outgoing
from paigeant.worker.company import Company
from paigeant.worker.suspects import (
    HEADER,
    Alone,
    Condemn,
    Evidence,
    Limits,
    Look,
    Rewrite,
    Trial,
    Usual,
    judge,
    on_arrival,
    trial_of,
)

log = structlog.stdlib.get_logger("paigeant.worker")

HOLD = 5.0
"""Seconds that a worker delays new steps for a suspect: while other steps end, and while the suspect runs alone."""

_PUT_OFF = (0.5, 1.0, 2.0, 5.0)
_EMPTIES_AFTER = 30.0
"""Seconds after which a worker that was never idle starts no steps, for ``HOLD`` at most, to run a suspect."""

_GIVES_UP_AFTER = 600.0
"""Seconds after which a suspect runs with others, because no worker is idle: a harmless suspect must end, too."""

_REMEMBERED = 1000
_NOTES_LAST = 1800.0
_LOOK = 0.1
_AGAIN = (0.2, 1.0, 5.0)

Runs = Callable[[Delivery, Company], Awaitable[None]]
"""Runs a delivery to its settlement among the deliveries of this company."""

Condemns = Callable[[Delivery, ErrorInfo, bool], Awaitable[None]]
"""Makes a delivery a dead letter for this reason, without reading it if the last argument is true."""


@dataclass
class Trials:
    """The trials of one worker.

    ``is_stopping`` returns whether the worker was asked to stop. ``postpone`` tells the store when a message that the
    worker returns is due again.
    """

    transport: BaseTransport
    limits: Limits
    company: Company
    is_stopping: Callable[[], bool]
    postpone: Callable[[Outgoing], Awaitable[None]]

    def __post_init__(self) -> None:
        self._waits = Waits()
        self._speaking: set[asyncio.Task[None]] = set()

    async def take(self, delivery: Delivery, run: Runs, condemn: Condemns) -> None:
        """Decide about a suspect, and run it, postpone it or condemn it.

        Raises:
            PaigeantError: broker or store are unavailable; this worker still holds the delivery.
        """
        match on_arrival(trial_of(delivery.headers), delivery.deliveries, self.limits, _name()):
            case Usual():
                await run(delivery, self.company)
            case Rewrite() as rewrite:
                await self._rewrite(delivery, rewrite)
            case Alone(trial):
                await self._alone_or_later(delivery, trial, run)
            case Look(trial):
                await self._conclude(delivery, trial, condemn)

    async def _rewrite(self, delivery: Delivery, rewrite: Rewrite) -> None:
        copy = delivery.copy({HEADER: str(rewrite.trial)}, rewrite.delay)
        await self.postpone(copy)
        await self.transport.settle(delivery, [copy])

    # --- a lone run ------------------------------------------------------------------------------------------

    async def _alone_or_later(self, delivery: Delivery, trial: Trial, run: Runs) -> None:
        counted = replace(delivery, deliveries=trial.before + delivery.deliveries)
        wait = self._waits.of(trial.name)
        if self.company.seclude() or (wait.lasts(_EMPTIES_AFTER) and await self.company.emptied(HOLD)):
            self._waits.forget(trial.name)
            await self._alone(counted, trial, run)
        elif wait.lasts(_GIVES_UP_AFTER):
            await run(counted, self.company)
        else:
            pause = wait.pause()
            await self.postpone(delivery.copy({}, pause))
            await self.transport.release(delivery, pause)

    async def _alone(self, delivery: Delivery, trial: Trial, run: Runs) -> None:
        """Run it while nothing else runs in this process.

        Its start is recorded first. If the process dies before it notes that it survived, this step killed it.
        """
        try:
            await self.transport.note(_key(delivery, "began", trial.name), _lifetime(trial))
            log.info("a suspect runs alone", queue=delivery.queue, deliveries=delivery.deliveries)
            with self._watching(delivery, trial):
                await run(delivery, Company())
        finally:
            self.company.open()
            self.company.leave()

    @contextmanager
    def _watching(self, delivery: Delivery, trial: Trial) -> Iterator[None]:
        watch = asyncio.create_task(self._watch(delivery, trial))
        try:
            yield
        finally:
            watch.cancel()
            self._speak(delivery, "spared", trial)  # the process survived the step, whatever its outcome

    async def _watch(self, delivery: Delivery, trial: Trial) -> None:
        """Spare the message while its step runs: when the worker must stop, loses it, or its lone period is over."""
        loop = asyncio.get_running_loop()
        over_at, is_spared, is_over = loop.time() + trial.lone_period, False, False
        while not (is_spared and is_over):
            if not is_spared and (self.is_stopping() or delivery.lease.lost):
                is_spared = True
                self._speak(delivery, "spared", trial)
            if not is_over and loop.time() >= over_at:
                is_over = True
                self._speak(delivery, "outlived", trial)
                self.company.open()
            await asyncio.sleep(_LOOK)

    # --- notes -----------------------------------------------------------------------------------------------

    def _speak(self, delivery: Delivery, what: str, trial: Trial) -> None:
        task = asyncio.create_task(self._note(_key(delivery, what, trial.name), _lifetime(trial)))
        self._speaking.add(task)
        task.add_done_callback(self._speaking.discard)

    async def _note(self, key: str, seconds: float) -> None:
        """Try until the broker has the note."""
        for attempt in range(int(seconds / _AGAIN[-1])):
            try:
                await self.transport.note(key, seconds)
            except PaigeantError:
                await asyncio.sleep(_AGAIN[min(attempt, len(_AGAIN) - 1)])
            else:
                break

    async def close(self, patience: float = 1.0) -> None:
        """Finish writing notes, within ``patience`` seconds."""
        if self._speaking:
            await asyncio.wait(set(self._speaking), timeout=patience)
        for task in set(self._speaking):
            task.cancel()

    # --- a trial in doubt ------------------------------------------------------------------------------------

    async def _conclude(self, delivery: Delivery, trial: Trial, condemn: Condemns) -> None:
        evidence = await self._evidence(delivery, trial)
        match judge(trial, delivery.deliveries, evidence, self.limits, _name()):
            case Rewrite() as rewrite:
                await self._rewrite(delivery, rewrite)
            case Condemn(reason, deliveries, unread):
                await condemn(replace(delivery, deliveries=deliveries), reason, unread)

    async def _evidence(self, delivery: Delivery, trial: Trial) -> Evidence:
        """Read the notes about a trial. The start is read first, because the notes that spare a trial are newer.

        On a broker without notes a run counts as started, and no process as surviving.
        """
        began = await self._noted(delivery, "began", trial.name) is not False
        outlived = bool(await self._noted(delivery, "outlived", trial.name))
        spared = [one for one in trial.fatal if await self._was_spared(delivery, one)]
        if outlived or await self._was_spared(delivery, trial.name):
            spared.append(trial.name)
        return Evidence(began, spared, outlived)

    async def _was_spared(self, delivery: Delivery, name: str) -> bool:
        return bool(await self._noted(delivery, "spared", name) or await self._noted(delivery, "outlived", name))

    async def _noted(self, delivery: Delivery, what: str, name: str) -> bool | None:
        return await self.transport.noted(_key(delivery, what, name))


class Wait:
    """How long this worker has postponed a suspect, and how often."""

    def __init__(self) -> None:
        self._since = asyncio.get_running_loop().time()
        self._times = 0

    def lasts(self, seconds: float) -> bool:
        """Whether the wait has lasted this long."""
        return asyncio.get_running_loop().time() - self._since >= seconds

    def pause(self) -> float:
        """Return the seconds until the suspect is due again."""
        self._times += 1
        return _PUT_OFF[min(self._times, len(_PUT_OFF)) - 1]


class Waits:
    """The suspects that a worker has postponed. If there are very many, it drops those it has not seen for longest."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Wait] = OrderedDict()

    def of(self, name: str) -> Wait:
        """Return the wait of this trial, which begins now if there is none."""
        wait = self._known.setdefault(name, Wait())
        self._known.move_to_end(name)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return wait

    def forget(self, name: str) -> None:
        """Remove the wait of this trial."""
        self._known.pop(name, None)


def _key(delivery: Delivery, what: str, name: str) -> str:
    """Return the key of a note. It starts with the queue's name: a broker user may often use no other names."""
    queue = delivery.queue.encode()[:200].decode(errors="ignore")
    return f"{queue}.{what}.{name}"


def _lifetime(trial: Trial) -> float:
    """Seconds a note lasts: beyond the lone period, until the message was delivered again and judged."""
    period = trial.lone_period
    return _NOTES_LAST + (period if period < 86_400.0 else 7 * 86_400.0)


def _name() -> str:
    return uuid4().hex[:16]

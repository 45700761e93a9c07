"""The bench for experiments: queues that nobody else uses, and other processes on the same broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from paigeant.doctor.other import PATIENCE
from paigeant.doctor.tier import Measured
from paigeant.errors import PaigeantError, Superseded, TransportError
from paigeant.runtime import beside
from paigeant.transport import BaseTransport, Delivery, Features, Outgoing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from paigeant.transports.kombu import KombuTransport

LONGEST_START = 60.0
"""Maximum seconds until another process has started and answers."""

AMPLE = 60.0
"""Lease in seconds for experiments that must not lose it even on a busy machine."""

QUICKLY = 10.0
"""Maximum seconds until a message without a delay arrives, even on a busy machine."""

_QUIET = 0.3
_TICK = 0.02


class Process:
    """Another process that uses the broker; see :mod:`paigeant.doctor.other`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, url: str, lease_seconds: float) -> Process:
        """Start a process without waiting until it is ready."""
        pipe = subprocess.PIPE
        command = (sys.executable, "-P", "-m", "paigeant.doctor.other")  # it imports nothing from the working directory
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.DEVNULL,
            process_group=0,
            env=os.environ | beside.import_path(),
        )
        made = cls(process)
        await made._write({"url": url, "lease_seconds": lease_seconds})
        return made

    async def ask(self, do: str, **order: Any) -> Any:
        """Send an order to the process and return its answer; see :class:`paigeant.doctor.other.Other`.

        Raises:
            TransportError: the order failed, or the process has died.
        """
        await self._write({"do": do, **order})
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(LONGEST_START + PATIENCE):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise TransportError(f"the other process did not answer to {do!r}") from None
        if not line:
            raise TransportError(f"the other process died of {do!r}")
        answer = json.loads(line)
        if "error" in answer:
            raise TransportError(answer["error"])
        return answer["value"]

    async def _write(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # the process has died: reading the answer raises the error
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            await self._process.stdin.drain()

    def freeze(self) -> None:
        """Send SIGSTOP: the process pauses, its connections stay open."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Send SIGCONT: the process continues."""
        os.kill(self._process.pid, signal.SIGCONT)

    async def kill(self) -> float:
        """Send SIGKILL; returns the time of the kill by the monotonic clock."""
        with suppress(ProcessLookupError):
            self._process.kill()
        killed_at = time.monotonic()
        await self._process.wait()
        return killed_at


class Bench:
    """One broker under experiment. ``here`` is this process's transport; ``measured`` collects the observations."""

    def __init__(
        self, url: str, lease_seconds: float, *, name: str | None = None, measured: Measured | None = None
    ) -> None:
        self.url = url
        self.lease_seconds = lease_seconds
        self.name = name or f"paigeant-doctor-{uuid4().hex[:8]}"
        self.measured = measured or Measured()
        self.here = self.new_transport()
        self._queues: list[str] = []

    def branch(self, name: str, lease_seconds: float) -> Bench:
        """Return a bench for one experiment, with its own connection and queues and a copy of the measurements."""
        return Bench(self.url, lease_seconds, name=f"{self.name}.{name}", measured=replace(self.measured, loses=False))

    @property
    def features(self) -> Features:
        return self.here.features

    @property
    def promised(self) -> float:
        """Seconds within which the broker must redeliver the message of a dead holder."""
        return 1.5 * self.lease_seconds

    @property
    def patience(self) -> float:
        """Seconds after which a message that has not arrived counts as lost."""
        return 3 * self.lease_seconds + 5.0

    def new_transport(self) -> KombuTransport:
        """Return a new transport that nobody shares; the caller closes it."""
        from paigeant.transports import BestEffortWarning, new_transport

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BestEffortWarning)  # the experiments measure what it warns about
            made = new_transport(self.url, lease_seconds=self.lease_seconds, durability="best_effort")
        return cast("KombuTransport", made)

    def queue(self, name: str) -> str:
        """Return the full name of a queue; the bench deletes the queue at the end."""
        full = f"{self.name}.{name}"
        if full not in self._queues:
            self._queues.append(full)
        return full

    @asynccontextmanager
    async def other_process(self) -> AsyncIterator[Process]:
        """Start another process and kill it at the end."""
        process = await Process.start(self.url, self.lease_seconds)
        try:
            yield process
        finally:
            await process.kill()

    @asynccontextmanager
    async def other_transport(self) -> AsyncIterator[KombuTransport]:
        """Open one more connection from this process."""
        transport = self.new_transport()
        try:
            yield transport
        finally:
            await transport.close()

    async def clear_up(self) -> list[str]:
        """Delete every queue and disconnect; returns the queues that could not be deleted."""
        left = []
        for queue in self._queues:
            try:
                await self.here.delete(queue)
            except PaigeantError:
                left.append(queue)
        await self.here.close()
        return left

    # --- what experiments are made of ------------------------------------------------------------------------

    async def send(self, queue: str, *names: str, **options: Any) -> None:
        """Publish one message for each name, with the name as its body."""
        await self.here.send([message(queue, name, **options) for name in names])

    async def take(self, queue: str, patience: float, transport: BaseTransport | None = None) -> Delivery | None:
        """Return one unsettled delivery, or None if none arrives within ``patience`` seconds."""
        try:
            async with asyncio.timeout(patience):
                async with aclosing((transport or self.here).consume([queue], 1)) as batches:
                    return (await anext(batches))[0]
        except TimeoutError:
            return None

    async def drain(self, queue: str, expected: int = 1) -> list[str]:
        """Consume and settle the expected number of messages, then wait briefly for more."""
        names: list[str] = []
        while (delivery := await self.take(queue, QUICKLY if len(names) < expected else _QUIET)) is not None:
            if await is_accepted(self.here, delivery):  # otherwise its lease expired, and the redelivery counts
                names.append(delivery.body.decode())
        return names


def message(queue: str, name: str, **options: Any) -> Outgoing:
    """Return a message with this name as its body."""
    return Outgoing(queue=queue, body=name.encode(), id=f"{queue}/{name}", **options)


async def is_accepted(transport: BaseTransport, delivery: Delivery, following: Sequence[Outgoing] = ()) -> bool:
    """Settle the delivery and return whether the broker accepted it."""
    try:
        await transport.settle(delivery, following)
    except Superseded:
        return False
    return True


class Stillness:
    """Measures the longest time for which this process did not run, because the machine was too busy."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> Stillness:
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._ticking.cancel()
        await asyncio.gather(self._ticking, return_exceptions=True)

    async def _tick(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last - _TICK), now

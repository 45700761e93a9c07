"""Another process on the same broker. The experiments send it orders, kill it, pause it and cut its connections.

``python -m paigeant.doctor.other`` reads one JSON object per line from standard input and answers each with another.
The first contains the broker's URL: a command line would show its password to everyone on the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import warnings
from contextlib import aclosing, suppress
from typing import Any

from paigeant.errors import PaigeantError, Superseded
from paigeant.runtime import logs
from paigeant.transport import BaseTransport, Delivery, Outgoing

PATIENCE = 20.0
"""Maximum seconds for any order except waiting for a message."""


class Other:
    """Carries out orders on one transport; holds at most one delivery."""

    def __init__(self, transport: BaseTransport) -> None:
        self._transport = transport
        self._held: Delivery | None = None

    async def carry_out(self, do: str, **order: Any) -> Any:
        """Carry out the order and return its result as JSON types."""
        match do:
            case "take":
                return await self._take(**order)
            case "send":
                return await self._send(**order)
            case "settle":
                return await self._settle(**order)
            case "cut":
                return cut_connections()
        raise ValueError(do)

    async def _take(self, queue: str, patience: float) -> int | None:
        """Claim one message and hold it; returns its delivery count, or None if none arrived."""
        try:
            async with asyncio.timeout(patience), aclosing(self._transport.consume([queue], 1)) as batches:
                [self._held] = await anext(batches)
        except TimeoutError:
            return None
        return self._held.deliveries

    async def _send(self, queue: str, name: str, delay: float = 0.0) -> None:
        await self._transport.send([Outgoing(queue=queue, body=name.encode(), id=f"{queue}/{name}", delay=delay)])

    async def _settle(self, queue: str, name: str) -> bool:
        """Settle the held message with one successor; returns whether the broker accepted it."""
        assert self._held is not None
        following = Outgoing(queue=queue, body=name.encode(), id=f"{queue}/{name}")
        try:
            async with asyncio.timeout(PATIENCE):
                await self._transport.settle(self._held, [following])
        except Superseded:
            return False
        return True


def cut_connections() -> int:
    """Break every network connection of this process, as if a cable was pulled; returns their number."""
    cut = 0
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - numbers, not paths
        with suppress(OSError), socket.socket(fileno=os.dup(int(name))) as one:
            if one.family in (socket.AF_INET, socket.AF_INET6) and one.type == socket.SOCK_STREAM:
                one.shutdown(socket.SHUT_RDWR)
                cut += 1
    return cut


async def _main() -> None:
    from paigeant.transports import new_transport

    orders, answers = sys.stdin, os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout = sys.stderr  # stray prints must not look like answers
    about = json.loads(await asyncio.to_thread(orders.readline))
    transport = new_transport(about["url"], lease_seconds=about["lease_seconds"], durability="best_effort")
    other = Other(transport)
    while line := await asyncio.to_thread(orders.readline):
        try:
            answer = {"value": await other.carry_out(**json.loads(line))}
        except (PaigeantError, TimeoutError) as error:
            answer = {"error": str(error) or type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    logs.configure("error", "console")
    warnings.simplefilter("ignore")
    asyncio.run(_main())
    os._exit(0)

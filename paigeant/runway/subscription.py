"""The consumer loop of the source documents: ``async for message in transport.subscribe("name")``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from paigeant.runway.executor import ActivityExecutor
from paigeant.transport import BaseTransport
from paigeant.wire.handed import HandedMessage

_Handed = tuple[HandedMessage, asyncio.Future[None]]
"""A message, and the future that the worker awaits before it settles the step."""


async def messages(transport: BaseTransport, name: str, *, burst: bool = False) -> AsyncGenerator[HandedMessage, None]:
    """Yield the messages for the activity with this name; see :meth:`paigeant.BaseTransport.subscribe`.

    A worker runs in the background. It renews the lease of the message while the body of the loop runs, and settles
    the step when the loop asks for the next message.
    """
    handed: asyncio.Queue[_Handed] = asyncio.Queue()

    async def hand(message: HandedMessage) -> None:
        settled = asyncio.get_running_loop().create_future()
        await handed.put((message, settled))
        await settled

    executor = ActivityExecutor(transport, name, hand, concurrency=1, burst=burst)
    serving = asyncio.create_task(executor.start())
    is_abandoned = False
    try:
        while (given := await _next(handed, serving)) is not None:
            message, settled = given
            is_left = True
            try:
                yield message
                is_left = False
            finally:
                is_abandoned = is_left and not message.is_decided
                if not (is_abandoned or settled.done()):  # undecided in the loop: the worker raises the error about it
                    settled.set_result(None)
    finally:
        executor.stop()
        if is_abandoned:
            executor.stop()  # the second stop releases the message at once
        await serving


async def _next(handed: asyncio.Queue[_Handed], serving: asyncio.Task[None]) -> _Handed | None:
    """Return the next message; None after the worker has ended."""
    waiting = asyncio.create_task(handed.get())
    try:
        await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else None
    finally:
        waiting.cancel()

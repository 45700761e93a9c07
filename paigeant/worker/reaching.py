"""Waits for broker and store when a worker starts, as the worker does in a later outage."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from paigeant.errors import StoreError, TransportError
from paigeant.runtime.outage import Outage
from paigeant.runtime.trouble import how_to_start, will_pass
from paigeant.worker.tasks import pauses

log = structlog.stdlib.get_logger("paigeant.worker")

LONGEST_PAUSE = 10.0
"""Maximum seconds between two tries."""


def _hint(error: TransportError | StoreError) -> str:
    waits = "waiting for it; with --no-wait the worker exits instead"
    return waits if (start := how_to_start(error)) is None else f"{waits}; {start}"


async def reached(connect: Callable[[], Awaitable[None]]) -> None:
    """Call ``connect`` until it succeeds, with growing pauses while broker or store is away.

    Raises:
        TransportError, StoreError: waiting would not help, for example because the login is wrong.
    """
    outage = Outage(log, "reach broker or store")
    for pause in pauses(longest=LONGEST_PAUSE):
        try:
            await connect()
        except (TransportError, StoreError) as error:
            if not will_pass(error):
                raise
            outage.failed(error, hint=_hint(error))
            await asyncio.sleep(pause)
        else:
            outage.worked()
            return

"""Transports of tests, each as a process of its own has it, and what breaks them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text

from paigeant.transport import Delivery
from paigeant.transports import forget, get_transport


@asynccontextmanager
async def transport_at(url: str, lease: float = 30.0) -> AsyncGenerator[Any]:
    """A transport of its own, as a separate process would have it."""
    transport = get_transport(url, lease_seconds=lease)
    forget(transport)
    await transport.connect()
    try:
        yield transport
    finally:
        await transport.close()


def names(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.body.decode() for delivery in deliveries]


async def pump_of(transport: Any) -> Any:
    return await transport._call(lambda pump: pump)


def break_commits(pump: Any, times: int, *, after: bool = False) -> list[Any]:
    """Make the next commits fail as if the connection broke. Returns the ids published by each attempt."""
    dialect, exchange, tried = pump.database.engine.dialect, pump.exchange, []
    commit = dialect.do_commit
    left = iter(range(times))

    def broken(connection: Any) -> None:
        is_broken = next(left, None) is not None
        if after or not is_broken:
            commit(connection)
        if is_broken:
            raise dialect.loaded_dbapi.OperationalError("server closed the connection")

    def noted(settlements: Sequence[Any], limit: int) -> Any:
        if settlements:
            tried.append([outgoing.id for settlement in settlements for outgoing in settlement.outgoing])
        return exchange(settlements, limit)

    dialect.do_commit, pump.exchange = broken, noted
    return tried


async def bury(transport: Any) -> None:
    """Do what other processes do to a holder that they found dead."""
    await transport._call(lambda pump: pump.write(lambda writer: writer.execute(text("DELETE FROM paigeant_holder"))))

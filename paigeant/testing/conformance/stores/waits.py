"""What every store must do in the role ``Waits``: waiting messages."""

from __future__ import annotations

import asyncio

from paigeant.events import SignalReceived
from paigeant.store import Store
from paigeant.testing.conformance.stores._samples import (
    connected,
    dispatched,
    hold_of,
)
from paigeant.testing.conformance.waiting import in_loop


class Waits:
    """The tests of the role :class:`paigeant.store.Waits`."""

    @in_loop
    async def test_what_waits_is_answered_once(self, store: Store) -> None:
        """By the first one; and not before it waits, nor when it has gone on."""
        async with connected(store):
            await store.record([dispatched("w")])
            given = [SignalReceived(correlation_id="w", at=3.0, key="approval:x", value=n) for n in range(6)]
            assert not await store.answer(given[0])
            await store.record([hold_of("w", "approval:x")])
            answers = await asyncio.gather(*(store.answer(one) for one in given[:5]))
            assert answers.count(True) == 1
            (held,) = await store.match("w")
            assert held.value == {"value": answers.index(True)}
            assert not await store.answer(given[5])
            assert [one.type for one in await store.events("w")].count("signal_received") == 1

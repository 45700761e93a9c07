"""What every store must do in the role ``Keys``: idempotency keys."""

from __future__ import annotations

import asyncio

from paigeant.records.workflow import KeyState, KeyUse
from paigeant.store import Store
from paigeant.testing.conformance.stores._samples import (
    connected,
)
from paigeant.testing.conformance.waiting import in_loop


class Keys:
    """The tests of the role :class:`paigeant.store.Keys`."""

    @in_loop
    async def test_a_key_stands_for_what_it_was_first_used_for(self, store: Store) -> None:
        """However many use it, and however they use it; and that it was sent is remembered."""
        async with connected(store):
            tries = [store.take_key(KeyUse(correlation_id="w", key="k", digest=str(n))) for n in range(10)]
            found = await asyncio.gather(*tries)
            await store.mark_sent("w")
            later = await store.take_key(KeyUse(correlation_id="w", key="k", digest="later"))
            other = await store.take_key(KeyUse(correlation_id="w-2", key="k-2", digest="other"))
        assert len({use.digest for use in found}) == 1
        assert sorted(use.state for use in found) == [KeyState.SENDING] * 9 + [KeyState.TAKEN]
        assert (later.digest, later.state) == (found[0].digest, KeyState.SENT)
        assert (other.digest, other.state) == ("other", KeyState.TAKEN)

"""What every store must do in the role ``Values``: large values."""

from __future__ import annotations

from paigeant.store import Store
from paigeant.testing.conformance.stores._samples import (
    connected,
)
from paigeant.testing.conformance.waiting import in_loop
from paigeant.wire.claim_check import Parcel


class Values:
    """The tests of the role :class:`paigeant.store.Values`."""

    @in_loop
    async def test_a_value_that_is_kept_is_there_until_its_workflow_is_dropped(self, store: Store) -> None:
        """As it was; for another workflow it is another one."""
        async with connected(store):
            mine, other = (Parcel.of(workflow, b'"\\u0000\xc3\xa4"' * 20_000) for workflow in ("a/../b", "other"))
            for _ in range(2):
                await store.keep([mine, other])
            missing = Parcel.of("nobody", mine.data).kept
            assert await store.fetch([mine.kept, missing]) == {mine.kept: mine.data}
            assert await store.drop(["a/../b", "nobody"]) == 1
            assert await store.fetch([mine.kept, other.kept]) == {other.kept: other.data}

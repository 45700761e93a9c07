"""What every store must do in the role ``Retention``: deleting ended workflows."""

from __future__ import annotations

from dataclasses import replace

from paigeant.records.workflow import KeyState, KeyUse
from paigeant.store import Store
from paigeant.testing.conformance.stores._samples import (
    completed,
    connected,
    dispatched,
    end_of,
    letter_of,
)
from paigeant.testing.conformance.waiting import in_loop
from paigeant.wire.claim_check import Parcel


class Retention:
    """The tests of the role :class:`paigeant.store.Retention`."""

    @in_loop
    async def test_what_has_ended_is_told_page_by_page(self, store: Store) -> None:
        """Families: not what runs, or ended later; those of which something runs or has a dead letter must stay."""
        async with connected(store):
            ids = [f"old-{n}" for n in range(6)]
            begun = [dispatched(one, at=1.0) for one in [*ids, "runs"]]
            children = [
                replace(dispatched("child", at=1.0), parent="old-1"),
                replace(dispatched("grandchild", at=1.0), parent="child"),
                replace(dispatched("fork", at=1.0), forked_from="grandchild"),
                replace(dispatched("busy", at=1.0), parent="old-2"),
                replace(dispatched("busy fork", at=1.0), forked_from="old-3"),
            ]
            ended = [replace(end_of(one), at=at) for at, one in enumerate(ids, 10)]
            over = [replace(end_of(one), at=12.0) for one in ("child", "grandchild", "fork")]
            letter = letter_of("old-4")
            await store.record([*begun, *children, *ended, *over, letter])
            assert list(await store.ended(10.0)) == []
            first, second = await store.ended(100.0, limit=2)
            assert (first.root, first.ended_at, first.members) == ("old-0", 10.0, ("old-0",))
            assert sorted(second.members) == ["child", "fork", "grandchild", "old-1"]
            rest = await store.ended(100.0, after=second)
            assert [(one.root, one.members) for one in rest] == [
                ("old-2", ()), ("old-3", ()), ("old-4", ()), ("old-5", ("old-5",)),
            ]  # fmt: skip
            assert [one.members for one in await store.ended(12.0)] == [("old-0",), ()]
            assert list(await store.ended(100.0, ["failed"])) == []

    @in_loop
    async def test_what_is_forgotten_is_gone_with_all_its_family(self, store: Store) -> None:
        """Unless something of it must stay by then."""
        async with connected(store):
            for root in ("gone", "kept"):
                begun = [dispatched(root), replace(dispatched(f"{root}-child"), parent=root)]
                await store.record([*begun, completed(root), end_of(root), end_of(f"{root}-child")])
                await store.keep([Parcel.of(root, b"1")])
                await store.take_key(KeyUse(correlation_id=root, key=root, digest="d"))
            later = 1e12
            families = await store.ended(later)
            await store.record([replace(dispatched("fork"), forked_from="kept-child")])
            assert await store.forget(families, later) == 2
            assert [one.correlation_id for one in await store.workflows()] == ["fork", "kept-child", "kept"]
            assert [await store.workflow(one) for one in ("gone", "gone-child")] == [None, None]
            assert list(await store.events("gone")) == []
            assert await store.fetch([Parcel.of(one, b"1").kept for one in ("gone", "kept")]) == {
                Parcel.of("kept", b"1").kept: b"1"
            }
            assert (await store.take_key(KeyUse(correlation_id="gone", key="gone", digest="d"))).state is KeyState.TAKEN
            assert await store.forget(families, later) == 0

"""What every store must do in the role ``Outbox``: messages that the broker may have lost are sent again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from paigeant.records.workflow import RESENT
from paigeant.store import Store
from paigeant.testing.conformance.stores._samples import (
    connected,
    dispatched,
    first_of,
    message_of,
)
from paigeant.testing.conformance.waiting import in_loop, until
from paigeant.transport import HANDED_ON, Outgoing


class Outbox:
    """The tests of the role :class:`paigeant.store.Outbox`."""

    @in_loop
    async def test_a_message_that_was_put_off_is_overdue_later(self, store: Store) -> None:
        """It is sent again with the headers that it has got meanwhile, as a copy that may be dropped."""
        async with connected(store):
            await store.record([dispatched("w"), dispatched("r")], [first_of("w"), first_of("r")])
            await store.postpone(replace(first_of("w"), delay=60.0, headers={"a": "b"}))
            await store.postpone(message_of("unknown", delay=60.0))

            assert await store.overdue(-1.0) == {"q": 1}
            (first,) = await store.take_overdue("q", -1.0, 10)
            assert first.id == "r-1"
            await store.postpone(replace(first_of("w"), headers={"c": "d", HANDED_ON: "1"}))
            found = {one.id: one.headers for one in await store.take_overdue("q", -1.0, 10)}
            assert found["w-1"] == {"c": "d", RESENT: "0"}

    @in_loop
    async def test_overdue_messages_are_taken_once(self, store: Store) -> None:
        """Of one queue, when due for longer than the grace; each time the same one is sent again, it is later."""
        async with connected(store):
            await store.record([dispatched("w"), dispatched("r")], [first_of("w"), first_of("r")])
            await store.record([], [message_of("later", delay=60.0), message_of("elsewhere", queue="other")])
            assert await store.overdue(60.0) == {}
            assert await store.take_overdue("q", 60.0, 10) == []

            async def overdue() -> bool:
                return await store.overdue(0.4) == {"q": 2, "other": 1}

            assert await until(overdue)
            assert await store.overdue(0.4, ["other"]) == {"other": 1}
            (first,) = await store.take_overdue("q", 0.4, 1)
            (second,) = await store.take_overdue("q", 0.4, 10)
            assert {first.id, second.id} == {"w-1", "r-1"}
            assert first.headers == {RESENT: "0"}
            assert await store.take_overdue("q", 0.4, 10) == []

            async def again() -> Sequence[Outgoing]:
                return await store.take_overdue("q", 0.4, 1)

            (third,) = await until(again)
            assert third.headers == {RESENT: "1"}

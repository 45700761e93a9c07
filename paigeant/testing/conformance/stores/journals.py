"""What every store must do in the role ``Journals``: journals of agent steps."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from paigeant.store import Store
from paigeant.testing.conformance.stores._samples import (
    connected,
    turn_of,
    unit_of,
)
from paigeant.testing.conformance.waiting import in_loop
from paigeant.wire.usage import Usage


class Journals:
    """The tests of the role :class:`paigeant.store.Journals`."""

    @in_loop
    async def test_a_journal_is_continued_by_the_turn_that_took_it_last(self, store: Store) -> None:
        """It has all that was written before; an earlier one can neither write nor take it back."""
        async with connected(store):
            first, second = turn_of("w", "first"), turn_of("w", "second", deliveries=2)
            assert await store.take_journal(first) == []
            assert await store.write_unit(first, unit_of("model:1"))
            taken = await store.take_journal(second)
            assert not await store.write_unit(first, unit_of("tool:1:a"))
            assert not await store.restart_journal(first)
            assert await store.take_journal(first) is None
            assert await store.write_unit(second, unit_of("tool:1:a"))
            assert await store.take_journal(turn_of("w", "third", attempt=2)) is not None
            kept = [unit.key for unit in await store.units("w")]
        assert taken is not None
        assert [(unit.key, unit.name, unit.value, unit.usage, unit.step_id) for unit in taken] == [
            ("model:1", "model", {"said": ["\x00", 1]}, Usage(requests=1, input_tokens=5), "1")
        ]
        assert kept == ["model:1", "tool:1:a"]

    @in_loop
    async def test_of_two_equal_turns_the_one_that_took_the_journal_last_writes_it(self, store: Store) -> None:
        """Some brokers do not count beyond the second delivery."""
        async with connected(store):
            first, second = turn_of("w", "first", deliveries=2), turn_of("w", "second", deliveries=2)
            assert await store.take_journal(first) == []
            assert await store.take_journal(second) == []
            assert not await store.write_unit(first, unit_of("model:1"))
            assert await store.write_unit(second, unit_of("model:1"))

    @in_loop
    async def test_a_unit_is_never_written_over(self, store: Store) -> None:
        """The first one stays, also when it is written again because nobody knew whether it was."""
        async with connected(store):
            turn = turn_of("w", "first")
            await store.take_journal(turn)
            assert await store.write_unit(turn, unit_of("model:1"))
            assert await store.write_unit(turn, replace(unit_of("model:1"), value="other"))
            assert [unit.value for unit in await store.units("w", "1")] == [{"said": ["\x00", 1]}]

    @in_loop
    async def test_a_journal_that_begins_anew_is_empty_and_what_it_used_stays_known(self, store: Store) -> None:
        """It is another edition."""
        async with connected(store):
            turn, later = turn_of("w", "first"), turn_of("w", "second", attempt=2)
            await store.take_journal(turn)
            await store.write_unit(turn, unit_of("model:1"))
            assert await store.restart_journal(turn)
            assert [unit.current for unit in await store.take_journal(later) or ()] == [False]
            assert await store.write_unit(later, unit_of("model:1"))
            assert await store.take_journal(turn_of("v", "other")) == []
            assert [unit.key for unit in await store.units("w", "1")] == ["model:1", "model:1"]
            assert await store.units("w", "2") == []

    @in_loop
    async def test_a_later_epoch_goes_on_from_the_journal_of_an_earlier_one(self, store: Store) -> None:
        """It alone may write from then on; a restart forgets the units of both."""
        async with connected(store):
            first, second = turn_of("w", "first", attempt=3), turn_of("w", "second", epoch=1)
            await store.take_journal(first)
            await store.write_unit(first, unit_of("model:1"))
            taken = await store.take_journal(second)
            assert [(unit.key, unit.current) for unit in taken or ()] == [("model:1", True)]
            assert not await store.write_unit(first, unit_of("tool:1:a"))
            assert await store.take_journal(turn_of("w", "late", attempt=4)) is None
            assert await store.write_unit(second, unit_of("tool:1:a"))
            again = await store.take_journal(turn_of("w", "third", epoch=1, deliveries=2))
            assert [(unit.key, unit.current) for unit in again or ()] == [("model:1", True), ("tool:1:a", True)]
            assert await store.restart_journal(turn_of("w", "third", epoch=1, deliveries=2))
            begun = await store.take_journal(turn_of("w", "fourth", epoch=2))
            assert [(unit.key, unit.current) for unit in begun or ()] == [("model:1", False), ("tool:1:a", False)]

    @in_loop
    async def test_a_journal_begins_with_that_of_the_workflow_it_comes_after(self, store: Store) -> None:
        """Once, without what that used, and not after it was begun anew."""
        async with connected(store):
            await store.take_journal(turn_of("v", "first"))
            await store.write_unit(turn_of("v", "first"), unit_of("model:1"))
            turn = replace(turn_of("w", "second"), after="v")
            for _ in range(2):
                taken = await store.take_journal(turn)
                assert [(unit.key, unit.current, unit.usage) for unit in taken or ()] == [("model:1", True, Usage())]
            assert await store.restart_journal(turn)
            assert [unit.current for unit in await store.take_journal(turn) or ()] == [False]

    @in_loop
    async def test_a_journal_that_was_forgotten_begins_anew(self, store: Store) -> None:
        """That of the step and no other, whoever runs it next."""
        async with connected(store):
            for workflow in ("v", "w"):
                await store.take_journal(turn_of(workflow, "first"))
                await store.write_unit(turn_of(workflow, "first"), unit_of("model:1"))
            await store.forget_journal("w", "1")
            await store.forget_journal("w", "2")
            for workflow, kept in (("v", True), ("w", False)):
                taken = await store.take_journal(turn_of(workflow, "second", epoch=1))
                assert [unit.current for unit in taken or ()] == [kept]

    @in_loop
    async def test_units_are_written_side_by_side(self, store: Store) -> None:
        """Those of tool calls that run at once."""
        async with connected(store):
            turn = turn_of("w", "first")
            await store.take_journal(turn)
            written = await asyncio.gather(*(store.write_unit(turn, unit_of(f"tool:1:{name}")) for name in "abcdef"))
            assert all(written)
            assert {unit.key for unit in await store.units("w")} == {f"tool:1:{name}" for name in "abcdef"}

"""What every store must do in the role ``Letters``: dead letters."""

from __future__ import annotations

import asyncio

from paigeant.events import ErrorInfo, LetterKind
from paigeant.records.workflow import Letters as Which
from paigeant.records.workflow import Move, Status
from paigeant.store import Store
from paigeant.testing.conformance.stores._samples import (
    connected,
    dispatched,
    end_of,
    failed,
    fails,
    first_of,
    hold_of,
    letter_of,
    redrive_of,
)
from paigeant.testing.conformance.waiting import in_loop


class Letters:
    """The tests of the role :class:`paigeant.store.Letters`."""

    @in_loop
    async def test_a_dead_letter_is_taken_once(self, store: Store) -> None:
        """With what is recorded then; the workflow it reopens may end again."""
        async with connected(store):
            await store.record([dispatched("w")], [first_of("w")])
            await store.record([fails("w"), failed("w"), letter_of("w")], cause="w-1")
            (letter,) = await store.dead_letters()
            assert isinstance(letter.id, int)
            move = Move(correlation_id="w", before=Status.FAILED, after=Status.RUNNING)
            redriven, held = redrive_of("w", letter.id), hold_of("w", "redrive")
            taking = [store.take_dead_letter(letter.id, move, [redriven, held]) for _ in range(8)]
            assert sorted(await asyncio.gather(*taking)) == [False] * 7 + [True]
            reopened = await store.workflow("w")
            waiting = await store.held("w")
            assert await store.dead_letter(letter.id) is None
            await store.record([end_of("w")])
            ended = await store.workflow("w")
        assert reopened is not None
        assert (reopened.status, reopened.error, reopened.finished_at) == (Status.RUNNING, None, None)
        assert [one.wait_id for one in waiting] == ["w-redrive"]
        assert ended is not None
        assert (ended.status, ended.output, ended.error) == (Status.COMPLETED, "done", None)

    @in_loop
    async def test_a_dead_letter_stays_when_its_workflow_stands_otherwise(self, store: Store) -> None:
        """Nothing is recorded then."""
        async with connected(store):
            await store.record([dispatched("w"), letter_of("w")], [first_of("w")])
            (letter,) = await store.dead_letters()
            assert isinstance(letter.id, int)
            for before in (Status.FAILED, None):
                move = Move(correlation_id="w", before=before, after=Status.RUNNING)
                assert not await store.take_dead_letter(letter.id, move, [hold_of("w", "redrive")])
            assert await store.held("w") == []
            assert await store.dead_letter(letter.id) == letter
            assert await store.take_dead_letter(letter.id, None, [])

    @in_loop
    async def test_dead_letters_are_found_and_edited(self, store: Store) -> None:
        """By what they are; an edit of what has changed meanwhile is refused."""
        async with connected(store):
            await store.record([letter_of("v"), letter_of("w", LetterKind.POISON, reason="100% deadly")])
            poison, other = await store.dead_letters()
            found = {
                "kind": (Which(kind=LetterKind.POISON), 1),
                "reason": (Which(reason="100%"), 1),
                "nothing": (Which(reason="1_0"), 0),
                "workflow": (Which(workflow="v"), 1),
                "all": (Which(queue="q", activity="a", error="OSError", since=1.0, before=10.0), 2),
                "time": (Which(since=10.0), 0),
            }
            for which, count in found.values():
                assert await store.count_dead_letters(which) == len(await store.dead_letters(9, which)) == count
            assert isinstance(poison.id, int)
            assert [one.id for one in await store.dead_letters(9, below=poison.id)] == [other.id]
            assert await store.edit_dead_letter(poison.id, poison.body, b"new", [])
            assert not await store.edit_dead_letter(poison.id, poison.body, b"newer", [])
            edited = await store.dead_letter(poison.id)
        assert edited is not None
        assert (edited.body, edited.error, edited.kind) == (b"new", ErrorInfo(type="OSError", message="no"), "poison")

"""What every store promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from paigeant.events import (
    LAST,
    Cancellation,
    DeadLetterRedriven,
    ErrorInfo,
    LetterKind,
    MessageDeadLettered,
    MessageHeld,
    StepCompleted,
    StepFailed,
    StepRetried,
    StepStarted,
    WorkflowCompleted,
    WorkflowDispatched,
    WorkflowFailed,
)
from paigeant.journal import Turn, Unit
from paigeant.kept import Parcel
from paigeant.limit import Limit, Lock, wanted_data
from paigeant.offer import Offer
from paigeant.store import KeyState, KeyUse, Letters, Move, ScheduleRecord, Status, Store, WorkerRecord
from paigeant.testing.conformance.waiting import in_loop, until
from paigeant.transport import Outgoing
from paigeant.usage import Usage

_ALONE = Limit()


class StoreConformance:
    """Subclass it with a pytest fixture ``store`` that gives an empty, unconnected store, new for each test."""

    # --- recording --------------------------------------------------------------------------------------------

    @in_loop
    async def test_what_is_recorded_is_known(self, store: Store) -> None:
        """From the first record to the last."""
        async with _connected(store):
            assert await store.record([_dispatched("w")], [_first("w")])
            begun = await store.workflow("w")
            assert await store.record([_completed("w"), _ended("w")], cause="w-1")
            ended = await store.workflow("w")
            types = [event.type for event in await store.events("w")]
            assert await store.workflow("nobody") is None
        assert begun is not None
        assert (begun.status, begun.variables, [step.status for step in begun.steps]) == (
            Status.RUNNING,
            {"v": 1},
            ["pending", "pending"],
        )
        assert ended is not None
        assert (ended.status, ended.output, ended.steps[0].output) == (Status.COMPLETED, "done", {"x": [1, None]})
        assert types == ["workflow_dispatched", "step_completed", "workflow_completed"]

    @in_loop
    async def test_the_end_of_a_step_is_recorded_once(self, store: Store) -> None:
        """The second to record it is refused, and nothing of its is written (G3)."""
        async with _connected(store):
            await store.record([_dispatched("w")], [_first("w")])
            assert await store.record([_completed("w")], [_out("w-2")], cause="w-1")
            assert not await store.record([_completed("w", output="late")], [_out("w-x")], cause="w-1")
            found = await store.workflow("w")
            followed = await store.successors("w-1")
        assert found is not None
        assert found.steps[0].output == {"x": [1, None]}
        assert [one.id for one in followed or ()] == ["w-2"]

    @in_loop
    async def test_tries_in_place_stand_or_fall_with_the_message_that_was_delivered(self, store: Store) -> None:
        """Of a refused write nothing is left, or the next attempt would count as done with."""
        async with _connected(store):
            await store.record([_dispatched("w")], [_first("w")])
            assert await store.record([_retried("w", 1)], [_out("w-1-2")], cause="w-1-1")
            late = [_retried("w", 1), _retried("w", 2), _completed("w", "1-3")]
            assert not await store.record(late, [_out("w-2")], cause="w-1-1")
            assert await store.successors("w-1-2") is None
            assert await store.record([_retried("w", 2), _completed("w", "1-3")], [], cause="w-1-2")
            found = await store.workflow("w")
        assert found is not None
        ended = [step.status for step in found.steps if step.status != "pending"]
        assert sorted(ended) == ["completed", "retried", "retried"]

    @in_loop
    async def test_of_many_at_once_one_is_accepted(self, store: Store) -> None:
        """Also when they come in one batch."""
        async with _connected(store):
            await store.record([_dispatched("w")], [_first("w")])
            tries = [store.record([_completed("w", output=n)], [_out(f"w-2-{n}")], cause="w-1") for n in range(10)]
            accepted = await asyncio.gather(*tries)
            followed = await store.successors("w-1")
        assert accepted.count(True) == 1
        assert [one.id for one in followed or ()] == [f"w-2-{accepted.index(True)}"]

    @in_loop
    async def test_dispatching_again_changes_nothing(self, store: Store) -> None:
        """A repeated dispatch is one workflow."""
        async with _connected(store):
            for _ in range(2):
                await store.record([_dispatched("w")], [_first("w")])
            events = await store.events("w")
            counts = await store.counts()
        assert ([event.type for event in events], counts) == (["workflow_dispatched"], {"running": 1})

    # --- idempotency keys -------------------------------------------------------------------------------------

    @in_loop
    async def test_a_key_stands_for_what_it_was_first_used_for(self, store: Store) -> None:
        """However many use it, and however they use it; and that it was sent is remembered."""
        async with _connected(store):
            tries = [store.take_key(KeyUse(correlation_id="w", key="k", digest=str(n))) for n in range(10)]
            found = await asyncio.gather(*tries)
            await store.mark_sent("w")
            later = await store.take_key(KeyUse(correlation_id="w", key="k", digest="later"))
            other = await store.take_key(KeyUse(correlation_id="w-2", key="k-2", digest="other"))
        assert len({use.digest for use in found}) == 1
        assert sorted(use.state for use in found) == [KeyState.SENDING] * 9 + [KeyState.TAKEN]
        assert (later.digest, later.state) == (found[0].digest, KeyState.SENT)
        assert (other.digest, other.state) == ("other", KeyState.TAKEN)

    # --- locks ------------------------------------------------------------------------------------------------

    @in_loop
    async def test_one_of_many_has_a_lock(self, store: Store) -> None:
        """Until it is given back; keeping it is for its holder only, and another lock is another matter."""
        async with _connected(store):
            wanted = [_lock(f"m{n}", worker=f"v{n}") for n in range(10)]
            taken = await asyncio.gather(*[_takes(store, one) for one in wanted])
            holder, *others = sorted(wanted, key=lambda one: not taken[wanted.index(one)])
            assert await store.take_locks([holder], 60) is None
            assert await store.take_locks([_lock(holder.holder, worker="another")], 60) == "lock:k"
            assert await store.take_locks([_lock("m1", key="lock:other")], 60) is None
            assert list(await store.keep_locks(wanted, 60)) == [holder]
            await store.free_locks([others[0]])
            assert await store.take_locks([others[0]], 60) == "lock:k"
            await store.free_locks([holder])
            assert await store.take_locks([others[0]], 60) is None
            assert list(await store.keep_locks([holder], 60)) == []
        assert taken.count(True) == 1

    @in_loop
    async def test_a_lock_that_is_not_kept_is_taken_over(self, store: Store) -> None:
        """Its holder has died, or was away; what it does then counts for nothing."""
        async with _connected(store):
            assert await store.take_locks([_lock("m1")], 0.05) is None
            assert await until(lambda: _takes(store, _lock("m2", worker="b"))) is True
            assert list(await store.keep_locks([_lock("m1")], 60)) == []
            await store.free_locks([_lock("m1")])
            assert await store.take_locks([_lock("m3")], 60) == "lock:k"

    @in_loop
    async def test_a_free_lock_is_granted_in_turn(self, store: Store) -> None:
        """Once, to the message that has waited longest, which any worker may run and nobody else overtakes."""
        async with _connected(store):
            await store.record([_dispatched("w"), _dispatched("v")])
            await store.record([_waiting("m2", "w", at=2.0), _waiting("m1", "v", at=1.0)])
            assert await store.take_locks([_lock("newcomer")], 60) == "lock:k"
            granted = await _granted(store, "lock:k")
            again = await _granted(store)
            assert await store.take_locks([_lock("newcomer")], 60) == "lock:k"
            assert await store.take_locks([_lock("m1", worker="any")], 60) is None
            await store.free_locks([_lock("m1", worker="any")])
            assert await store.take_locks([_lock("newcomer")], 60) == "lock:k"
            others = await _granted(store)
        assert (granted, again, others) == (["m1"], [], ["m2"])

    @in_loop
    async def test_as_many_have_a_place_as_there_are(self, store: Store) -> None:
        """However many want one at the same time."""
        async with _connected(store):
            wanted = [_lock(f"m{n}", f"v{n}", "concurrency:k", Limit(3)) for n in range(10)]
            lacking = await asyncio.gather(*[store.take_locks([one], 60) for one in wanted])
            holders = [one for one, missing in zip(wanted, lacking, strict=True) if missing is None]
            assert {one.holder for one in await store.keep_locks(wanted, 60)} == {one.holder for one in holders}
            await store.free_locks(holders[:1])
            again = await asyncio.gather(*[store.take_locks([one], 60) for one in wanted if one not in holders])
        assert (len(holders), again.count(None)) == (3, 1)

    @in_loop
    async def test_all_locks_are_taken_or_none(self, store: Store) -> None:
        """Who lacks one keeps nobody from the others."""
        async with _connected(store):
            assert await store.take_locks([_lock("m1", key="lock:b")], 60) is None
            both = [_lock("m2", key="lock:a"), _lock("m2", key="lock:b")]
            assert await store.take_locks(both, 60) == "lock:b"
            assert await store.take_locks([_lock("m3", key="lock:a")], 60) is None

    @in_loop
    async def test_who_waits_for_several_is_granted_all(self, store: Store) -> None:
        """It waits for the one it lacks, as old as it is, and is in nobody's way."""
        async with _connected(store):
            await store.record([_dispatched("w"), _dispatched("v")])
            assert await store.take_locks([_lock("m0", key="lock:b")], 60) is None
            both = [_lock("m1", key="lock:a"), _lock("m1", key="lock:b")]
            await store.record([_waiting("m1", "w", at=1.0, key="lock:a", wanted=both)])
            await store.record([_waiting("m2", "v", at=2.0, key="lock:a", wanted=[_lock("m2", key="lock:a")])])
            assert await _granted(store, "lock:a") == ["m2"]
            assert [one.key for one in await store.held("w")] == ["lock:b"]
            await store.free_locks([_lock("m0", key="lock:b")])
            assert await _granted(store) == []
            await store.free_locks([_lock("m2", key="lock:a")])
            assert await _granted(store) == ["m1"]
            assert await store.take_locks(both, 60) is None

    @in_loop
    async def test_a_rate_is_for_all(self, store: Store) -> None:
        """Of many that ask one starts; the others have to wait, and are told how long."""
        async with _connected(store):
            await store.record([_dispatched("w")])
            wanted = [_lock(f"m{n}", f"v{n}", "rate:k", Limit(60, 3600.0)) for n in range(5)]
            lacking = await asyncio.gather(*[store.take_locks([one], 60) for one in wanted])
            await store.record([_waiting("m9", "w", at=1.0, key="rate:k", wanted=wanted[:1])])
            granted, pause = await store.grant_locks(60)
        assert (lacking.count(None), list(granted)) == (1, [])
        assert pause is not None
        assert 0 < pause <= 60

    @in_loop
    async def test_time_gives_turns(self, store: Store) -> None:
        """In the order in which messages have waited; nobody needs to give anything back."""
        async with _connected(store):
            await store.record([_dispatched("w"), _dispatched("v")])
            limit = Limit(5, 1.0)
            for name, workflow, at in (("m2", "w", 2.0), ("m1", "v", 1.0)):
                lock = _lock(name, key="rate:k", limit=limit)
                await store.record([_waiting(name, workflow, at=at, key="rate:k", wanted=[lock])])
            turns: list[str] = []

            async def both_came() -> bool:
                turns.extend(await _granted(store))
                return len(turns) == 2

            assert await until(both_came) is True
        assert turns == ["m1", "m2"]

    @in_loop
    async def test_a_message_that_comes_late_has_its_turn(self, store: Store) -> None:
        """Its lock was granted to the next meanwhile, who has not come either; whoever runs is not disturbed."""
        async with _connected(store):
            await store.record([_dispatched("w"), _dispatched("v")])
            await store.record([_waiting("m1", "v", at=1.0)])
            assert [one.wait_id for one in (await store.grant_locks(0.05))[0]] == ["m1"]
            await store.record([_waiting("m2", "w", at=2.0)])
            assert await until(lambda: _granted(store)) == ["m2"]
            late = replace(_lock("m1"), granted_until=0.0)
            assert not await _takes(store, _lock("newcomer"))
            assert await _takes(store, late)
            assert not await _takes(store, replace(_lock("m2"), granted_until=0.0))
            assert list(await store.keep_locks([late], 60)) == [late]

    # --- the outbox -------------------------------------------------------------------------------------------

    @in_loop
    async def test_successors_are_kept_as_they_were_sent(self, store: Store) -> None:
        """Until they are done with themselves; of a message that is not, nothing is known."""
        sent = _out("w-2", headers={"a": "b"}, priority=3)
        async with _connected(store):
            await store.record([_dispatched("w")], [_first("w")])
            assert await store.successors("w-1") is None
            await store.record([_completed("w")], [sent], cause="w-1")
            before = await store.successors("w-1")
            await store.record([_completed("w", step="2"), _ended("w")], cause="w-2")
            assert await store.successors("w-1") == []
            assert await store.waiting_queues() == []
        assert before == [sent]

    @in_loop
    async def test_overdue_messages_are_taken_once(self, store: Store) -> None:
        """Of these queues, when due for longer than the grace, and not while a live worker runs them."""
        async with _connected(store):
            await store.announce(_worker("alive"))
            await store.record([_dispatched("w"), _dispatched("r")], [_first("w"), _first("r")])
            await store.record([_started("r", worker="alive")])
            await store.record([], [_out("later", delay=60.0), _out("elsewhere", queue="other")])
            assert await store.take_overdue(["q"], 60.0) == []
            assert sorted(await store.waiting_queues()) == ["other", "q"]

            async def overdue() -> list[str | None]:
                return [one.id for one in await store.take_overdue(["q"], 0.05)]

            assert await until(overdue) == ["w-1"]
            assert await store.take_overdue(["q"], 60.0) == []
            await store.withdraw("alive")
            taken = {*await until(overdue)}
            assert "r-1" in taken | {*await until(overdue)}

    # --- steering ---------------------------------------------------------------------------------------------

    @in_loop
    async def test_a_cancelled_workflow_does_not_end_again(self, store: Store) -> None:
        """Whatever its steps still record; and nothing waits in it."""
        async with _connected(store):
            await store.record([_dispatched("w")], [_first("w")])
            await store.record([_held("w", "signal:x")])
            found = await store.cancel("w", Cancellation(at=0.0, by="ada", reason="enough"))
            await store.record([_completed("w"), _ended("w")], cause="w-1")
            await store.record([_held("w", "signal:y")])
            record, standing = await store.workflow("w"), await store.standing("w-2", "w")
            types = [event.type for event in await store.events("w")]
            assert await store.held("w") == []
            again = await store.cancel("w", Cancellation(at=0.0))
            assert await store.cancel("nobody", Cancellation(at=0.0)) is None
        assert found is not None
        assert (found.status, [event.type for event in found.recorded]) == (Status.RUNNING, ["workflow_cancelled"])
        assert again is not None
        assert (again.status, again.recorded) == (Status.CANCELLED, ())
        assert record is not None
        assert record.cancellation is not None
        assert (record.status, record.output, record.cancellation.by) == (Status.CANCELLED, None, "ada")
        assert standing.status is Status.CANCELLED
        assert [one for one in types if one in LAST] == ["workflow_cancelled"]

    @in_loop
    async def test_a_workflow_that_ended_is_not_cancelled(self, store: Store) -> None:
        """Nor paused, nor resumed."""
        async with _connected(store):
            await store.record([_dispatched("w"), _ended("w")])
            for found in (
                await store.cancel("w", Cancellation(at=0.0)),
                await store.pause("w"),
                await store.resume("w"),
            ):
                assert found is not None
                assert (found.status, found.recorded) == (Status.COMPLETED, ())
            assert await store.cancellations(["w"]) == {}

    @in_loop
    async def test_what_waits_in_a_workflow_to_be_taken_back_is_due(self, store: Store) -> None:
        """Also what begins to wait after that; the workflow ends by what its messages become."""
        async with _connected(store):
            await store.record([_dispatched("w")])
            await store.record([_held("w", "signal:x")])
            await store.cancel("w", Cancellation(at=0.0, compensate=True))
            await store.record([_held("w", "signal:y")])
            due, _ = await store.take_due()
            marked = await store.cancellations(["w", "other"])
            record = await store.workflow("w")
        assert sorted(one.key for one in due) == ["signal:x", "signal:y"]
        assert {name: one.compensate for name, one in marked.items()} == {"w": True}
        assert record is not None
        assert record.status is Status.RUNNING

    @in_loop
    async def test_a_cancel_goes_down_to_the_children(self, store: Store) -> None:
        """Those that are there, at any depth, and those that are dispatched after it."""
        async with _connected(store):
            await store.record([_dispatched("w"), _dispatched("child", parent="w"), _dispatched("over", parent="w")])
            await store.record([_dispatched("deep", parent="over"), _ended("over")])
            found = await store.cancel("w", Cancellation(at=0.0))
            await store.record([_dispatched("late", parent="w")])
            late = await store.standing("late-1", "late")
            every = await store.workflows()
        assert found is not None
        assert {one.correlation_id: one.status.value for one in every} == {
            "w": "cancelled",
            "child": "cancelled",
            "deep": "cancelled",
            "over": "completed",
            "late": "running",
        }
        assert (late.status, late.cancellation is not None) == (Status.RUNNING, True)

    @in_loop
    async def test_a_paused_workflow_is_resumed(self, store: Store) -> None:
        """What was held for it is due then, also what is held too late."""
        async with _connected(store):
            await store.record([_dispatched("w")])
            paused = await store.pause("w", "ada")
            assert (await store.standing("w-1", "w")).status is Status.PAUSED
            await store.record([_held("w", "pause"), _held("w", "signal:x")])
            assert await store.take_due() == ((), None)
            resumed = await store.resume("w", "ada")
            await store.record([_held("w", "pause", id="w-late")])
            due, _ = await store.take_due()
            assert (await store.standing("w-1", "w")).status is Status.RUNNING
            assert await store.pause("nobody") is None
            assert await store.resume("nobody") is None
        assert paused is not None
        assert resumed is not None
        assert (paused.status, resumed.status) == (Status.RUNNING, Status.PAUSED)
        assert sorted(one.wait_id for one in due) == ["w-late", "w-pause"]

    # --- waiting ----------------------------------------------------------------------------------------------

    @in_loop
    async def test_the_end_is_awaited(self, store: Store) -> None:
        """By many at once, and at once when it has come already."""
        async with _connected(store):
            await store.record([_dispatched("w"), _dispatched("other")])
            waiting = [asyncio.ensure_future(store.await_end("w")) for _ in range(5)]
            await store.record([_ended("other")])
            await store.await_end("other")
            assert not any(wait.done() for wait in waiting)
            await store.record([_ended("w")])
            await asyncio.gather(*waiting)
            await store.await_end("w")

    @in_loop
    async def test_the_next_event_is_awaited(self, store: Store) -> None:
        """Offsets grow; a reader goes on where it was."""
        async with _connected(store):
            await store.record([_dispatched("w")])
            [first] = await store.events("w")
            wait = asyncio.ensure_future(store.await_event("w", first.offset))
            await store.record([_dispatched("other")])
            assert not wait.done()
            await store.record([_completed("w")])
            await wait
            [second] = await store.events("w", after=first.offset)
        assert second.offset > first.offset
        assert (second.type, second.data["step_id"]) == ("step_completed", "1")

    # --- finding ----------------------------------------------------------------------------------------------

    @in_loop
    async def test_what_has_ended_is_told_page_by_page(self, store: Store) -> None:
        """Not what runs, ended later, or has dispatched something that runs."""
        async with _connected(store):
            ids = [f"old-{n}" for n in range(5)]
            begun = [_dispatched(one, at=1.0) for one in [*ids, "runs"]]
            child = replace(_dispatched("child", at=1.0), parent="old-4")
            await store.record([*begun, child, *(_ended(one) for one in ids)])
            at = [one.finished_at or 0.0 for one in await store.workflows(status="completed")]
            assert list(await store.ended(min(at))) == []
            assert list(await store.ended(max(at) + 1, limit=2)) == ["old-0", "old-1"]
            assert list(await store.ended(max(at) + 1, after="old-1")) == ["old-2", "old-3"]

    # --- large values -----------------------------------------------------------------------------------------

    @in_loop
    async def test_a_value_that_is_kept_is_there_until_its_workflow_is_dropped(self, store: Store) -> None:
        """As it was; for another workflow it is another one."""
        async with _connected(store):
            mine, other = (Parcel.of(workflow, b'"\\u0000\xc3\xa4"' * 20_000) for workflow in ("a/../b", "other"))
            for _ in range(2):
                await store.keep([mine, other])
            missing = Parcel.of("nobody", mine.data).kept
            assert await store.fetch([mine.kept, missing]) == {mine.kept: mine.data}
            assert await store.drop(["a/../b", "nobody"]) == 1
            assert await store.fetch([mine.kept, other.kept]) == {other.kept: other.data}

    @in_loop
    async def test_workflows_are_found_by_the_beginning_of_their_id(self, store: Store) -> None:
        """At most ten; upper and lower case differ."""
        async with _connected(store):
            ids = [f"ab-{n:02}" for n in range(12)]
            await store.record([_dispatched(one) for one in [*ids, "AB-99", "b"]])
            assert sorted(await store.find("ab-1")) == ["ab-10", "ab-11"]
            assert len(await store.find("ab")) == 10
            assert list(await store.find("AB")) == ["AB-99"]
            assert list(await store.find("zz")) == []

    @in_loop
    async def test_workflows_are_listed_newest_first(self, store: Store) -> None:
        """By status, name, App and parent; counted by status."""
        async with _connected(store):
            await store.record([_dispatched("old", at=1.0), _dispatched("new", at=2.0), _ended("old")])
            assert [one.correlation_id for one in await store.workflows()] == ["new", "old"]
            assert [one.correlation_id for one in await store.workflows(status="completed")] == ["old"]
            assert [one.correlation_id for one in await store.workflows(app="shop", limit=1)] == ["new"]
            assert await store.workflows(name="no such") == []
            assert await store.counts() == {"running": 1, "completed": 1}
            await store.record([replace(_dispatched("child"), parent="new", at=9.0)])
            assert [one.correlation_id for one in await store.workflows(parent="")] == ["new", "old"]
            [child] = await store.workflows(parent="new")
            assert (child.correlation_id, child.parent) == ("child", "new")

    @in_loop
    async def test_workers_come_and_go(self, store: Store) -> None:
        """Announcing again is the same worker."""
        async with _connected(store):
            await store.announce(_worker("a", started_at=1.0))
            for _ in range(2):
                await store.announce(_worker("b", started_at=2.0))
            found = await store.workers()
            await store.withdraw("a")
            left = await store.workers()
        assert [(one.id, one.alive, one.queues) for one in found] == [("b", True, ("q",)), ("a", True, ("q",))]
        assert {one.code for one in found} == {"0123456789ab"}
        assert [one.offers for one in found] == [(_OFFER,), (_OFFER,)]
        assert [one.id for one in left] == ["b"]

    @in_loop
    async def test_a_schedule_that_is_due_is_given_to_one(self, store: Store) -> None:
        """It stays with that one until it is moved on; whoever moves it late changes nothing."""
        definition = {"every": 3600.0}
        declared = ScheduleRecord(app="shop", name="hourly", definition=definition, next_at=1.0)
        async with _connected(store):
            for _ in range(2):
                await store.register_schedules("shop", [declared])
            looks = [store.take_schedules("shop", {"hourly": definition}) for _ in range(5)]
            [taken] = [one for found, _ in await asyncio.gather(*looks) for one in found]
            assert await store.move_schedule(taken, 2.0, 1.0, "w")
            assert not await store.move_schedule(taken, 3.0, 1.0, "other")
            assert await store.pause_schedule("shop", "hourly")
            paused, _ = await store.take_schedules("shop", {"hourly": definition})
            assert not paused
            assert await store.schedules() == [replace(declared, next_at=2.0, last_at=1.0, last_id="w", paused=True)]
            assert await store.resume_schedule("shop", "hourly", 5.0)
            await store.register_schedules("shop", [])
            [left] = await store.schedules("shop")
            assert await store.delete_schedule("shop", "hourly")
            assert not await store.delete_schedule("shop", "hourly")
            assert not await store.schedules("shop")
        assert (left.next_at, left.paused, left.orphaned) == (5.0, False, True)

    @in_loop
    async def test_another_loop_can_use_it(self, store: Store) -> None:
        """A store belongs to no loop."""
        async with _connected(store):
            await store.record([_dispatched("w")])
            assert await asyncio.to_thread(lambda: asyncio.run(store.find("w"))) == ["w"]

    # --- journals of agent steps ------------------------------------------------------------------------------

    @in_loop
    async def test_a_journal_is_continued_by_the_turn_that_took_it_last(self, store: Store) -> None:
        """It has all that was written before; an earlier one can neither write nor take it back."""
        async with _connected(store):
            first, second = _turn("w", "first"), _turn("w", "second", deliveries=2)
            assert await store.take_journal(first) == []
            assert await store.write_unit(first, _unit("model:1"))
            taken = await store.take_journal(second)
            assert not await store.write_unit(first, _unit("tool:1:a"))
            assert not await store.restart_journal(first)
            assert await store.take_journal(first) is None
            assert await store.write_unit(second, _unit("tool:1:a"))
            assert await store.take_journal(_turn("w", "third", attempt=2)) is not None
            kept = [unit.key for unit in await store.units("w")]
        assert taken is not None
        assert [(unit.key, unit.name, unit.value, unit.usage, unit.step_id) for unit in taken] == [
            ("model:1", "model", {"said": ["\x00", 1]}, Usage(requests=1, input_tokens=5), "1")
        ]
        assert kept == ["model:1", "tool:1:a"]

    @in_loop
    async def test_of_two_equal_turns_the_one_that_took_the_journal_last_writes_it(self, store: Store) -> None:
        """Some brokers do not count beyond the second delivery."""
        async with _connected(store):
            first, second = _turn("w", "first", deliveries=2), _turn("w", "second", deliveries=2)
            assert await store.take_journal(first) == []
            assert await store.take_journal(second) == []
            assert not await store.write_unit(first, _unit("model:1"))
            assert await store.write_unit(second, _unit("model:1"))

    @in_loop
    async def test_a_unit_is_never_written_over(self, store: Store) -> None:
        """The first one stays, also when it is written again because nobody knew whether it was."""
        async with _connected(store):
            turn = _turn("w", "first")
            await store.take_journal(turn)
            assert await store.write_unit(turn, _unit("model:1"))
            assert await store.write_unit(turn, replace(_unit("model:1"), value="other"))
            assert [unit.value for unit in await store.units("w", "1")] == [{"said": ["\x00", 1]}]

    @in_loop
    async def test_a_journal_that_begins_anew_is_empty_and_what_it_used_stays_known(self, store: Store) -> None:
        """It is another edition."""
        async with _connected(store):
            turn, later = _turn("w", "first"), _turn("w", "second", attempt=2)
            await store.take_journal(turn)
            await store.write_unit(turn, _unit("model:1"))
            assert await store.restart_journal(turn)
            assert [unit.current for unit in await store.take_journal(later) or ()] == [False]
            assert await store.write_unit(later, _unit("model:1"))
            assert await store.take_journal(_turn("v", "other")) == []
            assert [unit.key for unit in await store.units("w", "1")] == ["model:1", "model:1"]
            assert await store.units("w", "2") == []

    @in_loop
    async def test_units_are_written_side_by_side(self, store: Store) -> None:
        """Those of tool calls that run at once."""
        async with _connected(store):
            turn = _turn("w", "first")
            await store.take_journal(turn)
            written = await asyncio.gather(*(store.write_unit(turn, _unit(f"tool:1:{name}")) for name in "abcdef"))
            assert all(written)
            assert {unit.key for unit in await store.units("w")} == {f"tool:1:{name}" for name in "abcdef"}

    # --- dead letters -----------------------------------------------------------------------------------------

    @in_loop
    async def test_a_dead_letter_is_taken_once(self, store: Store) -> None:
        """With what is recorded then; the workflow it reopens may end again."""
        async with _connected(store):
            await store.record([_dispatched("w")], [_first("w")])
            await store.record([_fails("w"), _failed("w"), _letter("w")], cause="w-1")
            (letter,) = await store.dead_letters()
            assert isinstance(letter.id, int)
            move = Move(correlation_id="w", before=Status.FAILED, after=Status.RUNNING)
            redriven, held = _redriven("w", letter.id), _held("w", "redrive")
            taking = [store.take_dead_letter(letter.id, move, [redriven, held]) for _ in range(8)]
            assert sorted(await asyncio.gather(*taking)) == [False] * 7 + [True]
            reopened = await store.workflow("w")
            waiting = await store.held("w")
            assert await store.dead_letter(letter.id) is None
            await store.record([_ended("w")])
            ended = await store.workflow("w")
        assert reopened is not None
        assert (reopened.status, reopened.error, reopened.finished_at) == (Status.RUNNING, None, None)
        assert [one.wait_id for one in waiting] == ["w-redrive"]
        assert ended is not None
        assert (ended.status, ended.output, ended.error) == (Status.COMPLETED, "done", None)

    @in_loop
    async def test_a_dead_letter_stays_when_its_workflow_stands_otherwise(self, store: Store) -> None:
        """Nothing is recorded then."""
        async with _connected(store):
            await store.record([_dispatched("w"), _letter("w")], [_first("w")])
            (letter,) = await store.dead_letters()
            assert isinstance(letter.id, int)
            for before in (Status.FAILED, None):
                move = Move(correlation_id="w", before=before, after=Status.RUNNING)
                assert not await store.take_dead_letter(letter.id, move, [_held("w", "redrive")])
            assert await store.held("w") == []
            assert await store.dead_letter(letter.id) == letter
            assert await store.take_dead_letter(letter.id, None, [])

    @in_loop
    async def test_dead_letters_are_found_and_edited(self, store: Store) -> None:
        """By what they are; an edit of what has changed meanwhile is refused."""
        async with _connected(store):
            await store.record([_letter("v"), _letter("w", LetterKind.POISON, reason="100% deadly")])
            poison, other = await store.dead_letters()
            found = {
                "kind": (Letters(kind=LetterKind.POISON), 1),
                "reason": (Letters(reason="100%"), 1),
                "nothing": (Letters(reason="1_0"), 0),
                "workflow": (Letters(workflow="v"), 1),
                "all": (Letters(queue="q", activity="a", error="OSError", since=1.0, before=10.0), 2),
                "time": (Letters(since=10.0), 0),
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

    @in_loop
    async def test_the_way_a_workflow_went_is_known(self, store: Store) -> None:
        """Its slip, and what the completed steps changed."""
        async with _connected(store):
            await store.record([replace(_dispatched("w"), slip={"itinerary": []})], [_first("w")])
            changed = replace(_completed("w"), variables={"v": 2}, ahead=[{"name": "b", "id": "3"}])
            await store.record([changed], [_out("w-2")], cause="w-1")
            course, nobody = await store.course("w"), await store.course("nobody")
        assert nobody is None
        assert course is not None
        (done,) = course.done
        assert (course.slip, done.id, done.output) == ({"itinerary": []}, "1", {"x": [1, None]})
        assert (done.variables, done.ahead) == ({"v": 2}, [{"name": "b", "id": "3"}])


@asynccontextmanager
async def _connected(store: Store) -> AsyncGenerator[None]:
    await store.connect()
    try:
        yield
    finally:
        await store.close()


def _dispatched(name: str, at: float = 1.0, parent: str | None = None) -> WorkflowDispatched:
    itinerary = [{"id": step, "name": "a", "queue": "q"} for step in ("1", "2")]
    return WorkflowDispatched(
        correlation_id=name,
        at=at,
        name="test",
        app="shop",
        message_id=f"{name}-1",
        variables={"v": 1},
        itinerary=itinerary,
        parent=parent,
    )


def _held(name: str, key: str, id: str = "") -> MessageHeld:  # noqa: A002
    about: dict[str, Any] = {"step_id": "1", "activity": "a", "queue": "q", "body": b"{}"}
    return MessageHeld(correlation_id=name, at=2.0, wait_id=id or f"{name}-{key}", key=key, **about)


def _step(name: str, step: str, worker: str) -> dict[str, Any]:
    about = {"message_id": f"{name}-{step}", "step_id": step, "activity": "a", "attempt": 1, "worker": worker}
    return {"correlation_id": name, "at": 2.0, **about}


def _started(name: str, worker: str) -> StepStarted:
    return StepStarted(**_step(name, "1", worker))


def _completed(name: str, step: str = "1", output: Any = None) -> StepCompleted:
    value = {"x": [1, None]} if output is None else output
    return StepCompleted(**_step(name, step, "w"), started_at=1.5, output=value)


def _fails(name: str) -> StepFailed:
    return StepFailed(**_step(name, "1", "w"), started_at=1.5, error=ErrorInfo(type="OSError", message="no"))


def _failed(name: str) -> WorkflowFailed:
    return WorkflowFailed(correlation_id=name, at=3.0, error=ErrorInfo(type="OSError", message="no"))


def _letter(name: str, kind: LetterKind = LetterKind.EXHAUSTED, reason: str = "OSError: no") -> MessageDeadLettered:
    about: dict[str, Any] = {"message_id": f"{name}-1", "queue": "q", "body": b"\x00{}", "worker": "w"}
    step: dict[str, Any] = {"activity": "a", "step_id": "1", "error": ErrorInfo(type="OSError", message="no")}
    return MessageDeadLettered(correlation_id=name, at=4.0, kind=kind, reason=reason, **about, **step)


def _redriven(name: str, letter: int) -> DeadLetterRedriven:
    about: dict[str, Any] = {"message_id": f"{name}-again", "step_id": "1", "activity": "a", "epoch": 1}
    return DeadLetterRedriven(correlation_id=name, at=5.0, letter=letter, **about)


def _retried(name: str, attempt: int) -> StepRetried:
    error = ErrorInfo(type="OSError", message="no")
    about = _step(name, f"1-{attempt}", "w")
    return StepRetried(**about, started_at=1.0 + attempt, error=error, delay=0.0)


def _ended(name: str) -> WorkflowCompleted:
    return WorkflowCompleted(correlation_id=name, at=9.0, output="done")


def _out(name: str, queue: str = "q", **options: Any) -> Outgoing:
    return Outgoing(queue=queue, body=b"{}\xff", id=name, **options)


def _first(name: str) -> Outgoing:
    return _out(f"{name}-1")


_OFFER = Offer(name="a", queue="q", description="Does a.", input={"type": "object"}, version="0123456789ab")


def _worker(name: str, started_at: float = 1.0) -> WorkerRecord:
    return WorkerRecord(
        id=name,
        app="shop",
        host="h",
        pid=1,
        activities=("a",),
        queues=("q",),
        concurrency=1,
        started_at=started_at,
        seen_at=started_at,
        code="0123456789ab",
        offers=(_OFFER,),
    )


def _lock(holder: str, worker: str = "a", key: str = "lock:k", limit: Limit = _ALONE) -> Lock:
    return Lock(key=key, holder=holder, worker=worker, limit=limit)


def _turn(workflow: str, holder: str, **order: int) -> Turn:
    order = {"attempt": 1, "resumes": 0, "deliveries": 1} | order
    return Turn(correlation_id=workflow, step_id="1", epoch=0, holder=holder, **order)


def _unit(key: str) -> Unit:
    usage = Usage(requests=1, input_tokens=5)
    return Unit(key=key, name="model", digest="d", value={"said": ["\x00", 1]}, usage=usage, worker="w")


async def _takes(store: Store, lock: Lock) -> bool:
    return await store.take_locks([lock], 60) is None


async def _granted(store: Store, key: str | None = None) -> list[str]:
    return [one.wait_id for one in (await store.grant_locks(60, key))[0]]


def _waiting(
    wait_id: str, workflow: str, at: float, key: str = "lock:k", wanted: Sequence[Lock] | None = None
) -> MessageHeld:
    about: dict[str, Any] = {
        "correlation_id": workflow,
        "at": at,
        "step_id": "1",
        "activity": "a",
        "queue": "q",
        "body": b"m",
    }
    detail = None if wanted is None else wanted_data(wanted)
    return MessageHeld(**about, wait_id=wait_id, key=key, detail=detail)

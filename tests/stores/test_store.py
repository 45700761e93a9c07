"""What every store promises, on every database."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from helpers import until_async
from stores.builders import (
    BROKEN,
    completed,
    dead_lettered,
    dispatched,
    failed,
    retried,
    started,
    types,
    worker,
    workflow_completed,
    workflow_failed,
)

from paigeant.records.workflow import Status, StepRecord

pytestmark = pytest.mark.anyio


# --- workflows -------------------------------------------------------------------------------------------------------


async def test_a_dispatched_workflow_is_running_with_its_steps_pending(store):
    """Everything is known from the first record on."""
    await store.record([dispatched()])
    found = await store.workflow("w1")
    assert (found.status, found.name, found.app, found.variables) == (
        Status.RUNNING,
        "onboarding",
        "shop",
        {"email": "a@b.c"},
    )
    assert (found.created_at, found.updated_at, found.finished_at) == (1.0, 1.0, None)
    assert found.steps == (
        StepRecord(id="1", activity="a", status="pending", queue="shop.a"),
        StepRecord(id="2", activity="b", status="pending", queue="shop.b"),
    )


async def test_a_completed_workflow_has_output_variables_and_end(store):
    """As the last event said."""
    await store.record([dispatched()])
    await store.record([completed(step="1"), completed(step="2"), workflow_completed()])
    found = await store.workflow("w1")
    assert (found.status, found.output, found.variables, found.error) == (
        Status.COMPLETED,
        [1, None],
        {"done": True},
        None,
    )
    assert (found.updated_at, found.finished_at) == (9.0, 9.0)


async def test_a_failed_workflow_keeps_its_error(store):
    """Type, message and traceback; steps that were not reached stay pending."""
    await store.record([dispatched()])
    await store.record([failed(), workflow_failed()])
    found = await store.workflow("w1")
    assert (found.status, found.error, found.output) == (Status.FAILED, BROKEN, None)
    assert [(step.status, step.error) for step in found.steps] == [("failed", BROKEN), ("pending", None)]


async def test_an_unknown_workflow_is_none(store):
    """The caller decides what that means."""
    assert await store.workflow("nobody") is None


async def test_an_ended_workflow_never_changes(store):
    """A late duplicate of another worker is too late (G3)."""
    await store.record([dispatched(), workflow_completed()])
    await store.record([workflow_failed(at=20.0)])
    found = await store.workflow("w1")
    assert (found.status, found.error, found.finished_at) == (Status.COMPLETED, None, 9.0)


async def test_a_step_that_changed_variables_changes_the_workflows(store):
    """While it runs; a step that changed none leaves them."""
    await store.record([dispatched()])
    await store.record([completed(step="1", variables={"v": 1})])
    await store.record([completed(step="2", variables=None)])
    assert (await store.workflow("w1")).variables == {"v": 1}


async def test_dispatching_the_same_workflow_again_changes_nothing_of_it(store):
    """A retried dispatch is one workflow."""
    await store.record([dispatched()])
    await store.record([completed(), workflow_completed()])
    before = (await store.workflow("w1"), await types(store))
    again = dispatched(at=50.0, name="other", variables={})
    await store.record([again])
    await store.record([again, again])
    assert (await store.workflow("w1"), await types(store)) == before


async def test_any_json_comes_back_as_it_was(store):
    """Unicode, NUL, huge and odd numbers, nesting."""
    value = {"a": ["ü\x00\U0001f600", 2**70, -0.5, None, True, {"": []}]}
    await store.record([dispatched(variables=value), completed(output=value), workflow_completed(output=value)])
    found = await store.workflow("w1")
    assert [found.output, found.steps[0].output] == [value, value]


# --- steps -----------------------------------------------------------------------------------------------------------


async def test_a_started_step_is_seen_before_it_ends(store):
    """With its worker and start."""
    await store.record([dispatched()])
    await store.record([started(worker="w7", deliveries=2)])
    step = (await store.workflow("w1")).steps[0]
    assert (step.status, step.worker, step.started_at, step.finished_at, step.deliveries) == (
        "started",
        "w7",
        2.0,
        None,
        2,
    )


async def test_the_end_of_a_step_takes_the_place_of_its_start(store):
    """One row for one attempt."""
    await store.record([dispatched()])
    await store.record([started(worker="w7")])
    await store.record([completed(worker="w8", output=5)])
    (step, _) = (await store.workflow("w1")).steps
    assert (step.status, step.worker, step.output, step.finished_at) == ("completed", "w8", 5, 3.0)


@pytest.mark.parametrize("late", [started(), completed(output="late"), failed()], ids=lambda event: event.type)
@pytest.mark.parametrize("end", [completed(), failed(), retried()], ids=lambda event: event.type)
async def test_an_ended_step_never_changes(store, end, late):
    """Whatever a worker that was thought dead still says."""
    await store.record([dispatched()])
    await store.record([end])
    before = (await store.workflow("w1")).steps
    await store.record([late])
    assert (await store.workflow("w1")).steps == before


async def test_every_attempt_is_kept(store):
    """In the order they began."""
    await store.record([dispatched()])
    await store.record([retried(message_id="m1", attempt=1, started_at=2.0)])
    await store.record([completed(message_id="m2", attempt=2, started_at=4.0)])
    steps = (await store.workflow("w1")).steps
    assert [(step.id, step.attempt, step.status) for step in steps] == [
        ("1", 1, "retried"),
        ("1", 2, "completed"),
        ("2", 1, "pending"),
    ]


# --- events ----------------------------------------------------------------------------------------------------------


async def test_events_are_read_in_order_from_any_offset(store):
    """A reader goes on where it stopped."""
    await store.record([dispatched(), dispatched("w2")])
    await store.record([started(), completed(), workflow_completed()])
    events = await store.events("w1")
    assert [event.type for event in events] == [
        "workflow_dispatched",
        "step_started",
        "step_completed",
        "workflow_completed",
    ]
    offsets = [event.offset for event in events]
    assert offsets == sorted(set(offsets))
    assert await store.events("w1", after=offsets[1]) == events[2:]
    assert await store.events("w1", limit=2) == events[:2]


async def test_an_event_says_who_and_when_and_leaves_large_values_to_their_tables(store):
    """An output is stored once, not in every place."""
    await store.record([retried(worker="w7", attempt=3)])
    (event,) = await store.events("w1")
    assert (event.correlation_id, event.at) == ("w1", 3.0)
    assert event.data["error"] == {"type": "ValueError", "message": "no", "traceback": "Traceback ..."}
    assert (event.data["worker"], event.data["attempt"], event.data["delay"]) == ("w7", 3, 1.5)
    await store.record([completed(output="x" * 1000)])
    assert "output" not in (await store.events("w1"))[-1].data


# --- lists -----------------------------------------------------------------------------------------------------------


async def _many(store):
    await store.record(
        [
            dispatched("a1", at=1.0),
            dispatched("a2", at=3.0, name="billing"),
            dispatched("b1", at=2.0, app="other"),
            workflow_completed("a1"),
            workflow_failed("b1"),
        ]
    )


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["a2", "b1", "a1"]),
        ({"status": "running"}, ["a2"]),
        ({"status": "failed"}, ["b1"]),
        ({"name": "onboarding"}, ["b1", "a1"]),
        ({"app": "shop"}, ["a2", "a1"]),
        ({"app": "shop", "status": "completed"}, ["a1"]),
        ({"status": "unheard of"}, []),
        ({"limit": 1}, ["a2"]),
    ],
    ids=str,
)
async def test_workflows_are_listed_newest_first_by_what_is_asked(store, filters, expected):
    """Filters are joined."""
    await _many(store)
    assert [found.correlation_id for found in await store.workflows(**filters)] == expected


async def test_workflows_are_counted_by_status(store):
    """For a glance at the whole."""
    await _many(store)
    assert await store.counts() == {"running": 1, "completed": 1, "failed": 1}


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("ord-1", ["ord-1", "ord-10", "ord-1ü"]),
        ("ord-10", ["ord-10"]),
        ("ORD", ["ORD-1"]),
        ("ord_", []),
        ("%", []),
        ("ord-1%", []),
        ("zzz", []),
    ],
)
async def test_ids_are_found_by_their_beginning(store, prefix, expected):
    """Letter by letter: no wildcards, no folding of case."""
    await store.record([dispatched(name) for name in ("ord-1", "ord-10", "ord-2", "ORD-1", "ord-1ü")])
    assert await store.find(prefix) == expected


async def test_at_most_ten_ids_are_found(store):
    """Enough to see that the prefix is too short."""
    await store.record([dispatched(f"w{n:02}") for n in range(15)])
    assert len(await store.find("w")) == 10


# --- workers and dead letters ----------------------------------------------------------------------------------------


async def test_a_worker_is_known_from_announcing_to_withdrawing(store):
    """With what it serves."""
    await store.announce(worker())
    (found,) = await store.workers()
    assert replace(found, seen_at=1.0) == worker()
    await store.withdraw("worker-1")
    assert await store.workers() == []


async def test_announcing_again_is_the_same_worker(store):
    """Only the latest word counts."""
    await store.announce(worker(concurrency=1))
    await store.announce(worker(concurrency=2))
    assert [found.concurrency for found in await store.workers()] == [2]


@pytest.mark.parametrize(
    ("silent", "expected"), [(0, [True]), (59, [True]), (61, [False]), (24 * 3600 - 61, [False])], ids=str
)
async def test_a_worker_that_is_silent_is_taken_for_gone(store, clock, silent, expected):
    """After four announcements that did not come."""
    await store.announce(worker())
    clock.seconds += silent
    assert [found.alive for found in await store.workers()] == expected


async def test_a_worker_silent_for_a_day_is_forgotten(store, clock):
    """When another one announces itself."""
    await store.announce(worker("old"))
    clock.seconds += 24 * 3600 + 1
    await store.announce(worker("new"))
    assert [found.id for found in await store.workers()] == ["new"]


async def test_dead_letters_keep_their_bytes(store):
    """The latest first, with the reason."""
    await store.record([dead_lettered(), dead_lettered(correlation_id="w1", message_id="m", reason="poison")])
    second, first = await store.dead_letters()
    assert (first.body, first.reason, first.message_id, first.deliveries) == (
        b"\x00\xff",
        "MalformedMessage: x",
        None,
        2,
    )
    assert (second.correlation_id, second.message_id, second.reason) == ("w1", "m", "poison")
    assert len(await store.dead_letters(limit=1)) == 1


# --- waiting ---------------------------------------------------------------------------------------------------------


async def test_waiting_for_an_end_ends_with_it(store):
    """For everyone who waits, and for nobody else."""
    await store.record([dispatched("w1"), dispatched("w2")])
    waits = [asyncio.ensure_future(store.await_end(name)) for name in ("w1", "w1", "w2")]
    await store.record([completed()])
    await store.record([workflow_completed("w1")])
    await asyncio.wait_for(asyncio.gather(*waits[:2]), 5)
    assert not waits[2].done()
    waits[2].cancel()


async def test_waiting_for_an_end_that_was_is_over_at_once(store):
    """Nothing further needs to be written."""
    await store.record([dispatched(), workflow_failed()])
    await asyncio.wait_for(store.await_end("w1"), 5)


async def test_waiting_for_an_event_ends_with_the_next_one(store):
    """After the offset that the reader has seen."""
    await store.record([dispatched()])
    (first,) = await store.events("w1")
    await asyncio.wait_for(store.await_event("w1", 0), 5)
    waiting = asyncio.ensure_future(store.await_event("w1", first.offset))
    await store.record([dispatched("w2")])
    await store.workflow("w1")
    assert not waiting.done()
    await store.record([started()])
    await asyncio.wait_for(waiting, 5)


async def test_what_another_process_writes_is_noticed(store, url):
    """The store of a caller and that of a worker are two."""
    if url == "sqlite://":
        pytest.skip("an in-memory database has one process only")
    from paigeant.stores.sql import SqlStore

    other = SqlStore(url)
    await other.record([dispatched()])
    waiting = asyncio.ensure_future(store.await_end("w1"))
    await other.record([workflow_completed()])
    await asyncio.wait_for(waiting, 5)
    await other.close()


async def test_nobody_who_has_gone_is_looked_after(store):
    """A cancelled wait is forgotten."""
    await store.record([dispatched()])
    waiting = asyncio.ensure_future(store.await_end("w1"))
    await store.workflow("w1")
    waiting.cancel()

    async def forgotten():
        return not store.access.watch

    await until_async(forgotten)


async def test_a_question_asked_while_the_store_closes_connects_anew(store, monkeypatch):
    """After the connections are closed and before the thread has ended: nothing may close the new one unseen."""
    stop = store.access.thread.stop

    def stop_after_a_question():
        store.access.thread.wait_for(
            lambda: store.access.guarded(lambda: store.access.reader.exec_driver_sql("SELECT 1").scalar()), 5
        )
        stop()

    monkeypatch.setattr(store.access.thread, "stop", stop_after_a_question)
    await store.close()
    monkeypatch.undo()
    await store.close()
    assert await store.workflow("w1") is None


async def test_a_closed_store_can_be_used_again(store, url):
    """It connects when it is asked something."""
    await store.record([dispatched()])
    await store.close()
    found = await store.workflow("w1")
    assert (found is None) == (url == "sqlite://")

"""Queues with messages, and steps ahead, that no live worker serves."""

from __future__ import annotations

from typing import Any

from paigeant.records.workflow import Status, StepRecord, WorkerRecord, WorkflowRecord, unserved, unserved_steps

ABOUT = {"app": "a", "host": "h", "pid": 1, "activities": (), "concurrency": 1, "started_at": 0.0, "seen_at": 0.0}


def test_they_are_named_with_what_waits_there():
    """Dead workers serve nothing; dead letters wait for people."""
    workers = [
        WorkerRecord(id="1", queues=("shop.a", "shop.b"), alive=True, **ABOUT),
        WorkerRecord(id="2", queues=("shop.c",), alive=False, **ABOUT),
    ]
    depths = {"shop.a": 3, "shop.c": 2, "shop.d": 1, "shop.e": 0, "shop.dead-letter": 9, "plain": 1}
    assert unserved(depths, workers) == [
        "no live worker serves 'c' (queue shop.c, 2 messages)",
        "no live worker serves 'd' (queue shop.d, 1 message)",
        "no live worker serves 'plain' (queue plain, 1 message)",
    ]


def a_workflow(*steps: StepRecord, status: Status = Status.RUNNING) -> WorkflowRecord:
    return WorkflowRecord(
        correlation_id="w", name="w", app="a", status=status, created_at=0.0, updated_at=0.0, steps=steps
    )


def a_step(activity: str, status: str = "pending", queue: str | None = None, **more: Any) -> StepRecord:
    return StepRecord(id=activity, activity=activity, status=status, queue=queue or f"shop.{activity}", **more)


def a_worker(*activities: str, queues: tuple[str, ...], alive: bool = True) -> WorkerRecord:
    return WorkerRecord(**{**ABOUT, "id": "1", "queues": queues, "activities": activities, "alive": alive})


def test_steps_ahead_are_named_with_their_queues():
    """Each activity once; those of live workers are left out."""
    ahead = a_workflow(a_step("a"), a_step("b"), a_step("c"), a_step("c"))
    workers = [a_worker("a", queues=("shop.a",)), a_worker("b", queues=("shop.b",), alive=False)]
    assert unserved_steps([ahead, ahead], workers) == [
        "no live worker serves 'b' (queue shop.b)",
        "no live worker serves 'c' (queue shop.c)",
    ]


def test_a_worker_serves_an_activity_from_its_queues_only():
    """One that has the activity and serves another queue does not; where the queue is unknown, the activity counts."""
    elsewhere = a_worker("a", queues=("shop.other",))
    assert unserved_steps([a_workflow(a_step("a"))], [elsewhere]) == ["no live worker serves 'a' (queue shop.a)"]
    unknown = StepRecord(id="a", activity="a", status="pending")
    assert unserved_steps([a_workflow(unknown)], [elsewhere]) == []
    assert unserved_steps([a_workflow(unknown)], []) == ["no live worker serves 'a'"]


def test_own_steps_need_a_worker_of_their_queue():
    """Every worker with a store runs them."""
    sleep = a_workflow(a_step("paigeant.sleep", queue="shop.paigeant"))
    assert unserved_steps([sleep], [a_worker("a", queues=("shop.a", "shop.paigeant"))]) == []
    assert unserved_steps([sleep], []) == ["no live worker serves 'paigeant.sleep' (queue shop.paigeant)"]


def test_only_steps_that_will_run_count():
    """Of each step the latest attempt says so; a workflow that has ended has none."""
    over = [a_step("a", "completed"), a_step("b", "skipped"), a_step("c", "retried"), a_step("c", "completed")]
    assert unserved_steps([a_workflow(*over)], []) == []
    assert len(unserved_steps([a_workflow(*(a_step(one, one) for one in ("started", "retried", "parked")))], [])) == 3
    assert unserved_steps([a_workflow(a_step("a"), status=Status.FAILED)], []) == []
    assert unserved_steps([a_workflow(a_step("a", "started", heading="back"))], []) == []

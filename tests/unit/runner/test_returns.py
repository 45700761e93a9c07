"""A delivery goes back with growing pauses, is counted in its headers, and is set aside after so many own errors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paigeant.errors import MalformedMessage, StoreError, StoreRefused, TransportError
from paigeant.records.workflow import WorkerRecord
from paigeant.runner.returns import (
    HEADER,
    LONGEST_PAUSE,
    MOST_FAULTS,
    Returns,
    copy_of,
    is_fault_of_message,
    others_serve,
    others_take_back,
    pause_after,
    returns_of,
)
from paigeant.transport import HANDED_ON, Delivery


def delivery(**options) -> Delivery:
    return Delivery(queue="q", body=b"body", tag=1, id="m1", **options)


def test_pauses_double_up_to_a_minute():
    """However often it goes back, and whatever the first pause is."""
    assert [pause_after(number) for number in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert pause_after(10**9) == LONGEST_PAUSE
    assert [pause_after(number, 10.0) for number in range(1, 5)] == [10, 20, 40, 60]


def test_faults_are_bounded_and_waits_are_not():
    """Only its own errors set a message aside; both make its pauses longer."""
    faulty = waiting = Returns()
    for _ in range(MOST_FAULTS):
        assert not faulty.is_last
        faulty, waiting = faulty.after_fault(), waiting.after_wait()
    assert (faulty.is_last, waiting.is_last) == (True, False)
    assert waiting.after_fault().pause == LONGEST_PAUSE


def test_the_count_travels_in_a_header_beside_what_was_there():
    """The broker's own headers stay behind; the body, id and priority stay the same."""
    given = delivery(headers={"x-delivery-count": 3, "other": "kept"}, deliveries=4, priority=7)
    copy = copy_of(given, Returns(2, 1), 8.0)
    assert (copy.body, copy.id, copy.priority, copy.delay) == (b"body", "m1", 7, 8.0)
    assert dict(copy.headers) == {"other": "kept", HEADER: "2 1 3", HANDED_ON: "1"}
    assert returns_of(copy.headers) == Returns(2, 1, before=3)


@pytest.mark.parametrize("said", [None, "", "x", "1", "1 2", "1 2 3 4", "-1 0 0", 7, b"1 2 3", "9" * 40 + " 0 0", []])
def test_what_nobody_can_read_counts_as_nothing(said):
    """Anybody may have put it there."""
    assert returns_of({HEADER: said}) == Returns()


@pytest.mark.parametrize(
    ("error", "is_fault"),
    [
        (StoreError("the server closed the connection"), False),
        (StoreRefused("invalid byte sequence"), True),
        (TransportError("connection refused"), False),
        (TransportError("the connection to redis://x was closed"), False),
        (TransportError("PRECONDITION_FAILED - inequivalent arg 'x-max-length'"), True),
        (MalformedMessage("no JSON"), True),
        (ValueError("anything else"), True),
    ],
)
def test_an_outage_is_not_the_fault_of_a_message(error, is_fault):
    """However long it lasts."""
    assert is_fault_of_message(error) is is_fault


def test_who_else_serves_what_this_worker_does_not():
    """A living one that says so; of its compensation, one with other code: those with the same code lack the same."""
    about = {"host": "h", "pid": 1, "concurrency": 1, "queues": (), "started_at": 0.0, "seen_at": 0.0, "app": "a"}
    me = WorkerRecord(id="me", code="2", activities=("book",), alive=True, **about)
    same = replace(me, id="same")
    other = replace(me, id="other", code="1")
    for serve in (others_serve, others_take_back):
        assert not serve([me], "me", "book")
        assert not serve([me, replace(other, alive=False)], "me", "book")
        assert not serve([me, other], "me", "ship")
        assert serve([me, same, other], "me", "book")
    assert others_serve([me, same], "me", "book")
    assert not others_take_back([me, same], "me", "book")

"""What is out, and what comes again while it is."""

from __future__ import annotations

from typing import Any

from paigeant.transport import Delivery
from paigeant.transports.bridge.out import Came, Out
from paigeant.transports.pump.settlement import Settlement


def delivery(token: int, name: str | None = "m", **options: Any) -> Delivery:
    return Delivery(**{"queue": "q", "body": b"body", "tag": token, "token": token, "id": name} | options)


def test_what_comes_again_under_a_lost_lease_is_settled_in_place_of_the_first():
    """Again and again; the first has the lease of the last."""
    out, first, second, third = Out(), delivery(1), delivery(2), delivery(3)
    assert out.add(first) is Came.NEW
    for lost, again in ((first, second), (second, third)):
        lost.lease.lost = True
        assert first.lease.lost
        assert out.is_astray(Settlement(delivery=first))
        assert out.add(again) is Came.AGAIN
        assert not first.lease.lost
        assert not out.is_astray(Settlement(delivery=first))
        assert out.settlement(Settlement(delivery=first)).delivery is again
    assert out.held([]) == 1
    out.discard(first)
    assert out.held([]) == 0
    assert out.add(delivery(4)) is Came.NEW


def test_what_is_not_the_same_message_is_handed_out():
    """Without an id; with another body, or from another queue."""
    for is_lost, name, options in (
        (True, None, {}),
        (True, "m", {"body": b"else"}),
        (True, "m", {"queue": "p"}),
    ):
        out, first = Out(), delivery(1, name)
        out.add(first)
        first.lease.lost = is_lost
        assert out.add(delivery(2, name, **options)) is Came.NEW
        assert out.settlement(Settlement(delivery=first)).delivery is first


def test_a_lost_one_leaves_its_place():
    """To what comes again. What is being settled is held no more."""
    out, kept, lost = Out(), delivery(1, "kept"), delivery(2, "lost")
    out.add(kept)
    out.add(lost)
    assert out.held([]) == 2
    lost.lease.lost = True
    assert out.held([]) == 1
    assert out.held([Settlement(delivery=lost)]) == 1
    assert out.held([Settlement(delivery=kept), Settlement()]) == 0


def test_a_copy_waits_for_the_first_and_goes_with_it():
    """Its publisher did not hear that the first one had arrived. It takes a place meanwhile."""
    out, first, copy = Out(), delivery(1), delivery(2)
    assert out.add(first) is Came.NEW
    assert out.add(copy) is Came.COPY
    assert out.held([]) == 2
    assert out.settlement(Settlement(delivery=first)).delivery is first
    assert out.discard(first) == [copy]
    assert out.held([]) == 0
    assert out.add(delivery(3)) is Came.NEW


def test_a_copy_that_was_lost_with_its_connection_is_forgotten():
    """The broker hands both out again: one continues the run, the other waits again."""
    out, first, copy = Out(), delivery(1), delivery(2)
    out.add(first)
    out.add(copy)
    first.lease.lost = copy.lease.lost = True
    assert out.held([]) == 0
    assert [out.add(delivery(3)), out.add(delivery(4))] == [Came.AGAIN, Came.COPY]
    assert [one.token for one in out.discard(first)] == [4]


def test_a_lease_that_goes_on_thousands_of_times_is_no_deeper_than_one():
    """A step may outlive any number of connections."""
    out, first = Out(), delivery(1)
    out.add(first)
    before = first
    for token in range(2, 5000):
        before.lease.lost = True
        before = delivery(token)
        assert out.add(before) is Came.AGAIN
    assert not first.lease.lost
    assert first.lease.holds
    before.lease.lost = True
    assert first.lease.lost

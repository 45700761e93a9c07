"""What is out, and what comes again while it is."""

from __future__ import annotations

from typing import Any

from paigeant.transport import Delivery
from paigeant.transports.out import Out
from paigeant.transports.settlement import Settlement


def delivery(token: int, name: str | None = "m", **options: Any) -> Delivery:
    return Delivery(**{"queue": "q", "body": b"body", "tag": token, "token": token, "id": name} | options)


def test_what_comes_again_under_a_lost_lease_is_settled_in_place_of_the_first():
    """Again and again; the first has the lease of the last."""
    out, first, second, third = Out(), delivery(1), delivery(2), delivery(3)
    assert not out.add(first)
    for lost, again in ((first, second), (second, third)):
        lost.lease.lost = True
        assert first.lease.lost
        assert out.is_astray(Settlement(delivery=first))
        assert out.add(again)
        assert not first.lease.lost
        assert not out.is_astray(Settlement(delivery=first))
        assert out.settlement(Settlement(delivery=first)).delivery is again
    assert out.held([]) == 1
    out.discard(first)
    assert out.held([]) == 0
    assert not out.add(delivery(4))


def test_what_is_not_the_same_message_is_handed_out():
    """A copy while the first is held; without an id; with another body, or from another queue."""
    for is_lost, name, options in (
        (False, "m", {}),
        (True, None, {}),
        (True, "m", {"body": b"else"}),
        (True, "m", {"queue": "p"}),
    ):
        out, first = Out(), delivery(1, name)
        out.add(first)
        first.lease.lost = is_lost
        assert not out.add(delivery(2, name, **options))
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

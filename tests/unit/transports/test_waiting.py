"""What a transport's thread was handed: how much of it is under way at once, and in which order it comes again."""

from __future__ import annotations

from concurrent.futures import Future

from paigeant.transport import Delivery, Outgoing
from paigeant.transports.bridge import waiting
from paigeant.transports.bridge.waiting import Waiting
from paigeant.transports.pump.settlement import Request, Settlement


def sending(size: int = 1, give_up_at: float | None = None) -> Request:
    return Request(Settlement(outgoing=[Outgoing(queue="q", body=b"x" * size)]), Future(), give_up_at)


def acknowledging(token: int = 1) -> Request:
    return Request(Settlement(delivery=Delivery(queue="q", body=b"", tag=1, token=token)), Future())


def test_a_group_has_an_upper_bound():
    """By number; the rest has its turn as soon as there is room."""
    kept, requests = Waiting(), [sending() for _ in range(2 * waiting.MOST + 1)]
    for one in requests:
        kept.add(one)
    assert kept.group() == requests[: waiting.MOST]
    assert not kept.has_new
    for one in requests[: waiting.MOST]:
        kept.discard(one)
    assert kept.has_new
    assert kept.group() == requests[waiting.MOST : 2 * waiting.MOST]
    assert len(kept) == waiting.MOST + 1


def test_a_group_has_an_upper_bound_in_bytes():
    """One message above it goes alone."""
    kept, requests = Waiting(), [sending(waiting.MOST_BYTES // 2) for _ in range(3)]
    for one in requests:
        kept.add(one)
    assert kept.group() == requests[:2]
    large = Waiting()
    for one in (sending(2 * waiting.MOST_BYTES), sending()):
        large.add(one)
    assert len(large.group()) == 1


def test_acknowledgements_do_not_wait_behind_messages_that_nobody_may_publish():
    """Nor does their number grow without end."""
    kept = Waiting()
    for _ in range(waiting.MOST):
        kept.add(sending())
    kept.group()
    kept.add(sending())
    kept.add(acknowledging())
    assert kept.has_new
    assert [one.publishes for one in kept.group()].count(False) == 1


def test_after_an_outage_everything_comes_again_in_its_order():
    """What was under way first, since nobody knows what became of it."""
    kept, first, second = Waiting(), [sending() for _ in range(3)], sending()
    for one in first:
        kept.add(one)
    kept.group()
    kept.add(second)
    kept.start_again()
    assert kept.group() == [*first, second]
    assert [one.settlement.tried for one in (*first, second)] == [True, True, True, False]


def test_senders_whose_patience_is_over_are_found():
    """Under way or not."""
    kept, late, patient = Waiting(), sending(give_up_at=1.0), sending(give_up_at=9.0)
    for one in (late, patient, sending()):
        kept.add(one)
    kept.group()
    assert kept.overdue(5.0) == [late]

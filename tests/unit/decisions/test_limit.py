"""How many may run at a time, or start in a while."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant.decisions.limit import TIME, Limit, Lock, Place, Taking, take, wanted_data, wanted_of

NOW = 1000.0
LATER, PAST = NOW + 10, NOW - 10


def mine(places=1, **changes):
    """The lock that the message m wants on the worker w."""
    return Lock(key="concurrency:p:k", **{"holder": "m", "worker": "w", "limit": Limit(places)} | changes)


def held(holder="other", worker="v", until=LATER):
    """A place somebody has."""
    return Place(holder, worker, until)


@pytest.mark.parametrize(
    ("lock", "places", "others_wait", "expected"),
    [
        (mine(), [], False, Taking()),
        (mine(), [], True, None),
        (mine(), [held()], False, None),
        (mine(2), [held()], False, Taking()),
        (mine(2), [held("a"), held("b")], False, None),
        (mine(), [held(until=PAST)], False, Taking((held(until=PAST),))),
        (mine(2), [held("a", until=PAST), held("b")], False, Taking((held("a", until=PAST),))),
        (mine(3), [held("a", until=PAST), held("b")], False, Taking()),
        (mine(), [held("m", None)], True, Taking()),
        (mine(), [held("m", "w")], True, Taking()),
        (mine(), [held("m", "another worker")], False, None),
        (mine(), [held("m", "another worker", PAST)], False, Taking()),
        (mine(granted_until=PAST), [], True, Taking()),
        (mine(granted_until=PAST), [held(worker=None)], True, Taking((held(worker=None),))),
        (mine(granted_until=PAST), [held()], True, None),
        (mine(), [held(worker=None)], False, None),
        (mine(1), [held("a"), held("b"), held("c")], False, None),
    ],
)
def test_who_may_have_a_place(lock, places, others_wait, expected):
    """Whoever finds one free, or was granted one; dead holders go when their places are needed."""
    assert take(lock, places, NOW, others_wait=others_wait) == expected


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["take", "free", "keep", "wait"])), max_size=60),
)
def test_never_more_than_its_places_are_held(places, acts):
    """Whatever the messages do, and however often leases end."""
    now, rows = 0.0, dict[str, Place]()
    for who, act in acts:
        holder = f"m{who}"
        match act:
            case "take":
                lock = mine(places, holder=holder)
                if (taking := take(lock, [*rows.values()], now, others_wait=False)) is not None:
                    for one in taking.gone:
                        assert one.until < now, "somebody who held it has lost it"
                        del rows[one.holder]
                    rows[holder] = Place(holder, "w", now + 5)
            case "free":
                rows.pop(holder, None)
            case "keep" if holder in rows:
                rows[holder] = Place(holder, "w", now + 5)
            case "wait":
                now += 3
        assert len(rows) <= max(places, 1)


# --- rates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "places", "period"),
    [("100/m", 100, 60), ("5/s", 5, 1), ("20/10m", 20, 600), ("1/h", 1, 3600), ("1000/d", 1000, 86400)],
)
def test_a_rate_is_a_number_and_a_time(text, places, period):
    """In the units everybody knows."""
    assert Limit.of_rate(text) == Limit(places, period)


@pytest.mark.parametrize(
    "text", ["", "5", "5/", "/s", "0/s", "5/0s", "-5/s", "5.5/s", "5/ms", "5/s ", "\u0665/s", 5, None]
)
def test_what_is_no_rate_is_refused(text):
    """With one that is."""
    with pytest.raises(ValueError, match="a rate is written as 100/m"):
        Limit.of_rate(text)


def starts(limit, times):
    """When steps start that ask at these times, each until it may."""
    until, found = None, []
    for asked_at in sorted(times):
        now = max(asked_at, until or 0.0, found[-1] if found else 0.0)
        places = [] if until is None else [Place(TIME, None, until)]
        taking = take(mine(limit=limit), places, now, others_wait=False)
        assert taking is not None
        until = taking.next_start
        found.append(now)
    return found


@given(
    st.sampled_from(["1/s", "3/s", "10/s", "25/s", "100/m", "7/10m"]),
    st.lists(st.floats(0, 30), min_size=1, max_size=80),
)
def test_no_period_sees_more_starts_than_its_rate(text, times):
    """Wherever it begins."""
    limit = Limit.of_rate(text)
    found = starts(limit, [1000 + time for time in times])
    for first, beyond in zip(found, found[limit.places :], strict=False):
        assert beyond - first >= limit.period - 1e-6


@pytest.mark.parametrize(("text", "seconds"), [("100/m", 0.6), ("5/s", 0.2), ("1/h", 3600)])
def test_a_slow_rate_is_spread_evenly(text, seconds):
    """Each start waits for its turn, and none for longer than it must."""
    found = starts(Limit.of_rate(text), [NOW] * 20)
    assert all(later - earlier == pytest.approx(seconds) for earlier, later in pairwise(found))


def test_a_fast_rate_lets_some_start_at_once():
    """What it gives in a tenth of a second: nobody looks more often."""
    assert starts(Limit.of_rate("100/s"), [NOW] * 11)[:10] == [NOW] * 10


@pytest.mark.parametrize(
    ("granted_until", "until", "others_wait", "may"),
    [
        (None, NOW, False, True),
        (None, NOW, True, False),
        (None, LATER, False, False),
        (LATER, LATER, True, True),
        (PAST, LATER, True, False),
        (PAST, NOW, True, True),
    ],
)
def test_a_turn_is_good_until_its_time(granted_until, until, others_wait, may):
    """A message that comes too late for it asks again, before those who come new."""
    lock = mine(limit=Limit(1, 1.0), granted_until=granted_until)
    assert (take(lock, [Place(TIME, None, until)], NOW, others_wait=others_wait) is not None) == may


# --- as data ----------------------------------------------------------------------------------------------------------


def test_what_a_message_wants_is_read_back():
    """From what its row says of it."""
    locks = [mine(5, worker=None), Lock(key="rate:p:k", holder="m", limit=Limit(5, 2.0))]
    found = wanted_of("rate:p:k", "m", wanted_data(locks))
    assert [(one.key, one.holder, one.limit) for one in found] == [(one.key, one.holder, one.limit) for one in locks]


@pytest.mark.parametrize(
    "junk", [None, 7, {}, {"limits": 7}, {"limits": [7, {"key": 1}, {"key": "k", "places": -1, "period": None}]}]
)
def test_of_what_makes_no_sense_the_lock_is_left(junk):
    """Any program may write to the database."""
    assert wanted_of("k", "m", junk) == [Lock(key="k", holder="m")]

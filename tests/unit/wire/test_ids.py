from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from paigeant.wire import ids
from paigeant.wire.ids import derive_message_id, derive_schedule_id, new_correlation_id, shortened

parts = st.tuples(
    st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    st.sampled_from(["forward", "back"]),
    st.integers(1, 10**9),
    st.integers(0, 10**9),
)


def test_a_correlation_id_is_a_uuid_version_7():
    """Other tools can read the time out of it."""
    read = UUID(new_correlation_id())
    assert read.version == 7
    assert read.variant == "specified in RFC 4122"


def test_correlation_ids_sort_by_time(monkeypatch):
    """Ids of a later millisecond come later, so newest-first lists need no other column."""
    times = iter(range(1_000_000, 10_000_000_000, 999_000_000))
    monkeypatch.setattr(ids.time, "time_ns", lambda: next(times))
    made = [new_correlation_id() for _ in range(10)]
    assert made == sorted(made)


def test_correlation_ids_of_one_moment_differ(monkeypatch):
    """The random part alone keeps a burst of dispatches apart."""
    monkeypatch.setattr(ids.time, "time_ns", lambda: 1)
    assert len({new_correlation_id() for _ in range(10_000)}) == 10_000


def test_a_message_id_never_changes_between_releases():
    """Part of the wire format: an older worker derives the same id."""
    assert derive_message_id("c1", "1", "forward", 1) == "0b7db4712fcb560d96e217eaadab9c8b"


@given(parts, parts)
def test_message_ids_are_equal_only_for_the_same_attempt_of_the_same_step(one, other):
    """The same step sent twice is one message, and no two steps share one."""
    assert (derive_message_id(*one) == derive_message_id(*other)) == (one == other)


def test_the_id_of_a_scheduled_time_never_changes_between_releases():
    """Workers of two releases serve one schedule; and no other schedule, App or time shares it."""
    made = derive_schedule_id("shop", "nightly", 1772442000.0)
    assert made == "019cadc6-9a80-8c3a-af21-fe6fd059ca45"
    others = [("shop", "daily", 1772442000.0), ("bank", "nightly", 1772442000.0), ("shop", "nightly", 1772442060.0)]
    assert len({made, *(derive_schedule_id(*other) for other in others)}) == 4
    assert made < derive_schedule_id("shop", "nightly", 1772442060.0)


@given(st.text(max_size=600), st.text(max_size=600))
def test_a_bounded_name_is_short_and_its_own(one, other):
    """Short ones stay readable; different ones stay different."""
    assert len(shortened(one)) <= 200
    assert (shortened(one) == one) == (len(one) <= 200)
    assert (shortened(one) == shortened(other)) == (one == other)

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from paigeant.errors import InvalidArguments
from paigeant.wire.times import Times

NOW = 1000.0
LATER = datetime.fromtimestamp(1500, UTC)
PAST = datetime.fromtimestamp(10, UTC)

# what dispatch is given -> when it is due, must be started, must be over
TABLE = [
    ({}, (1000, None, None)),
    ({"delay": 60}, (1060, None, None)),
    ({"delay": timedelta(minutes=2)}, (1120, None, None)),
    ({"eta": LATER}, (1500, None, None)),
    ({"eta": PAST}, (1000, None, None)),
    ({"expires": 30}, (1000, 1030, None)),
    ({"delay": 60, "expires": 30}, (1060, 1090, None)),
    ({"expires": LATER}, (1000, 1500, None)),
    ({"delay": 60, "deadline": 90}, (1060, None, 1090)),
    ({"deadline": LATER}, (1000, None, 1500)),
    ({"deadline": timedelta(hours=1)}, (1000, None, 4600)),
]


@pytest.mark.parametrize(("given", "expected"), TABLE)
def test_when_a_workflow_begins_and_ends(given, expected):
    """Relative times count from now, and expiry from when the step is due."""
    times = Times.of(NOW, **given)
    assert (times.due_at, times.start_by, times.deadline) == expected


NONSENSE = [
    ({"delay": 1, "eta": LATER}, "either delay or eta"),
    ({"delay": -1}, "delay is no time from now on"),
    ({"delay": float("nan")}, "delay is no time from now on"),
    ({"deadline": float("inf")}, "deadline is no time from now on"),
    ({"eta": datetime(2030, 1, 1)}, "eta has no time zone"),  # noqa: DTZ001 - the mistake
    ({"expires": 0}, "expires is not after the first step is due"),
    ({"expires": PAST}, "expires is not after"),
    ({"deadline": PAST}, "deadline is not after"),
    ({"delay": 60, "deadline": 60}, "deadline is not after"),
]


@pytest.mark.parametrize(("given", "words"), NONSENSE)
def test_times_that_contradict_each_other_are_refused(given, words):
    """At once, where they are written."""
    with pytest.raises(InvalidArguments, match=words):
        Times.of(NOW, **given)

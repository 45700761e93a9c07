"""When schedules are due. Times are written as people in the schedule's time zone would."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant.errors import ConfigurationError
from paigeant.schedules.timetable import BATCH, MISSED_AFTER, Backfill, Timetable

BERLIN = "Europe/Berlin"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()  # a Monday


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def read(times: list[float], zone: str = "UTC") -> list[str]:
    return [datetime.fromtimestamp(time, ZoneInfo(zone)).isoformat(" ", "minutes") for time in times]


def following(table: Timetable, since: float, count: int) -> list[float]:
    return list(islice(table.after(since), count))


# --- times -----------------------------------------------------------------------------------------------------------

TIMES = [
    ({"every": 90}, ["2026-03-02 12:01", "2026-03-02 12:03", "2026-03-02 12:04"]),
    ({"every": timedelta(hours=6)}, ["2026-03-02 18:00", "2026-03-03 00:00", "2026-03-03 06:00"]),
    ({"cron": "*/20 * * * *"}, ["2026-03-02 12:20", "2026-03-02 12:40", "2026-03-02 13:00"]),
    ({"cron": "0 9 * * 1-5"}, ["2026-03-03 09:00", "2026-03-04 09:00", "2026-03-05 09:00"]),
    ({"cron": "0 9 * * mon"}, ["2026-03-09 09:00", "2026-03-16 09:00", "2026-03-23 09:00"]),
    ({"cron": "0 0 29 2 *"}, ["2028-02-29 00:00", "2032-02-29 00:00", "2036-02-29 00:00"]),
    ({"cron": "0 9 * * 1", "timezone": BERLIN}, ["2026-03-09 08:00", "2026-03-16 08:00", "2026-03-23 08:00"]),
    # day of month and day of week: either, unless one begins with a star
    ({"cron": "0 0 13 * 5"}, ["2026-03-06 00:00", "2026-03-13 00:00", "2026-03-20 00:00"]),
]


@pytest.mark.parametrize(("given", "expected"), TIMES)
def test_the_times_after_a_time(given, expected):
    """In UTC, after noon on Monday, 2 March 2026."""
    assert read([time - time % 60 for time in following(Timetable.of(**given), NOON, 3)]) == [
        f"{time}+00:00" for time in expected
    ]


# In Berlin the clock goes from 02:00 to 03:00 on 29 March 2026, and from 03:00 back to 02:00 on 25 October.
CHANGES = [
    # what would be in the hour that is left out comes right after it
    ("30 2 * * *", "2026-03-28 12:00", ["2026-03-29 03:00+02:00", "2026-03-30 02:30+02:00"]),
    # what comes in the hour that is there twice comes once
    ("30 2 * * *", "2026-10-24 12:00", ["2026-10-25 02:30+02:00", "2026-10-26 02:30+01:00"]),
    (
        "0,30 2 * * *",
        "2026-10-24 12:00",
        ["2026-10-25 02:00+02:00", "2026-10-25 02:30+02:00", "2026-10-26 02:00+01:00"],
    ),
    # what comes several times an hour goes by hours that really pass
    ("*/30 * * * *", "2026-03-29 01:00", ["2026-03-29 01:30+01:00", "2026-03-29 03:00+02:00"]),
    ("0 * * * *", "2026-10-25 01:30", ["2026-10-25 02:00+02:00", "2026-10-25 02:00+01:00", "2026-10-25 03:00+01:00"]),
    # a working day's nine o'clock is nine o'clock on both sides
    ("0 9 * * *", "2026-03-28 08:00", ["2026-03-28 09:00+01:00", "2026-03-29 09:00+02:00"]),
]


@pytest.mark.parametrize(("cron", "since", "expected"), CHANGES)
def test_daylight_saving_time(cron, since, expected):
    """As Debian's cron has it."""
    table = Timetable.of(cron=cron, timezone=BERLIN)
    assert read(following(table, at(since, BERLIN), len(expected)), BERLIN) == expected


def test_a_time_in_the_hour_that_is_there_twice_is_not_served_again():
    """Also when one asks in the second of the two hours."""
    table = Timetable.of(cron="50 2 * * *", timezone=BERLIN)
    second = datetime(2026, 10, 25, 2, 45, tzinfo=ZoneInfo(BERLIN), fold=1).timestamp()
    assert read(following(table, second, 1), BERLIN) == ["2026-10-26 02:50+01:00"]


NONSENSE = [
    ({}, "either every or cron"),
    ({"every": 60, "cron": "* * * * *"}, "either every or cron"),
    ({"every": 0.5}, "no interval of at least 1 s"),
    ({"every": float("nan")}, "no interval"),
    ({"every": timedelta(0)}, "no interval"),
    ({"cron": "* * * *"}, "cannot be read: Wrong number of fields"),
    ({"cron": "61 * * * *"}, "cannot be read: Bad minute"),
    ({"cron": ""}, "cannot be read"),
    ({"cron": "0 0 30 2 *"}, "cannot be read: Bad day-of-month"),
    ({"cron": "* * */20 * 1L"}, "no time within fifty years"),
    ({"cron": "* * * * *", "timezone": "Mars/Olympus"}, "no time zone 'Mars/Olympus'"),
    ({"cron": "* * * * *", "timezone": "../etc/passwd"}, "no time zone"),
    ({"every": 60, "backfill": "some"}, "backfill='some' is unknown"),
]


@pytest.mark.parametrize(("given", "complaint"), NONSENSE)
def test_what_makes_no_sense_is_refused(given, complaint):
    """When it is written, not when it is due."""
    with pytest.raises(ConfigurationError, match=complaint):
        Timetable.of(**given)


def test_a_definition_is_the_timetable():
    """And what is none is refused, not believed."""
    table = Timetable.of(cron="0 9 * * 1-5", timezone=BERLIN, backfill="all")
    assert Timetable.defined(table.definition) == table
    with pytest.raises(ConfigurationError, match="is no timetable"):
        Timetable.defined({"hourly": True})


# --- what is due -----------------------------------------------------------------------------------------------------

DUE = [
    # backfill, seconds since the first time that is due -> the times served, as seconds since the first, and the next
    ("none", 0, [0], 600),
    ("none", MISSED_AFTER, [0], 600),
    ("none", MISSED_AFTER + 1, [], 600),
    ("none", 1810, [1800], 2400),
    ("none", 1790, [], 1800),
    ("latest", 0, [0], 600),
    ("latest", 599, [0], 600),
    ("latest", 1810, [1800], 2400),
    ("latest", 1790, [1200], 1800),
    ("all", 0, [0], 600),
    ("all", 1790, [0, 600, 1200], 1800),
    ("all", 600 * 100, [600 * number for number in range(BATCH)], 600 * BATCH),
]


@pytest.mark.parametrize("times", [{"every": 600}, {"cron": "*/10 * * * *"}], ids=["every", "cron"])
@pytest.mark.parametrize(("backfill", "late", "served", "following"), DUE)
def test_what_becomes_of_times_that_were_missed(times, backfill, late, served, following):
    """A table over the policies."""
    due = Timetable.of(**times, backfill=backfill).due(NOON, NOON + late)
    assert [time - NOON for time in due.times] == served
    assert due.next_at == NOON + following


def test_the_latest_of_years_is_found_at_once():
    """Without going through all that were missed: a minute's schedule that rested for ten years."""
    table = Timetable.of(cron="* * * * *")
    due = table.due(NOON, NOON + 3650 * 86400 + 30)
    assert due.times == (NOON + 3650 * 86400,)
    rare = Timetable.of(cron="0 0 29 2 *")
    assert read(list(rare.due(at("2020-02-29 00:00"), at("2027-01-01 00:00")).times)) == ["2024-02-29 00:00+00:00"]


CRONS = ["* * * * *", "*/7 3 * * *", "0,30 2 * * *", "30 2 * * 0", "15 */5 1,15 * *", "0 * * * *", "0 0 L * *"]
tables = st.one_of(
    st.builds(lambda every: {"every": every}, st.integers(1, 100_000) | st.floats(1.0, 1e6)),
    st.builds(
        lambda cron, zone: {"cron": cron, "timezone": zone},
        st.sampled_from(CRONS),
        st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe"]),
    ),
)
moments = st.floats(1.5e9, 2.0e9)


@given(tables, moments)
def test_times_only_grow(times, since):
    """Each is later than the one before, and asking anew from any of them gives the same."""
    table = Timetable.of(**times)
    found = following(table, since, 8)
    assert since < found[0]
    assert found == sorted(set(found))
    assert [table.next_after(time) for time in found[:-1]] == found[1:]


@given(tables, moments, st.integers(0, 40), st.sampled_from([Backfill.NONE, Backfill.LATEST, Backfill.ALL]))
def test_each_time_is_served_or_passed_over_once(times, since, looks, backfill):
    """However the looks fall: what is served is in order, and the next time lies behind the moment of the look."""
    table = Timetable.of(**times, backfill=backfill)
    every = following(table, since, 41)
    now = every[looks]
    next_at, served = every[0], []
    while next_at <= now:
        due = table.due(next_at, now)
        assert due.next_at is not None
        assert due.next_at > next_at
        served += due.times
        next_at = due.next_at
    assert served == (every[: looks + 1] if backfill is Backfill.ALL else [now])
    assert next_at == every[looks + 1] if looks < 40 else next_at > now

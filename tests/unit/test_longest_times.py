"""Times beyond the calendar are refused where they are given: mostly they are milliseconds taken for seconds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from paigeant import (
    ActivitySpec,
    App,
    Budget,
    Park,
    Retry,
    RetryPolicy,
    await_approval,
    await_signal,
    scatter,
    scatter_map,
    sleep,
)
from paigeant.cli.output import iso, readable
from paigeant.config import load_settings
from paigeant.errors import ConfigurationError
from paigeant.wire.times import LATEST, LONGEST, Times

MILLISECONDS = 1e12

app = App("long", "memory://")


@app.activity
async def hello() -> None: ...


DOORS: dict[str, Callable[[Any], object]] = {
    "every": lambda s: app.schedule("bad", hello, every=s),
    "delay": lambda s: Times.of(0.0, delay=s),
    "expires": lambda s: Times.of(0.0, expires=s),
    "deadline": lambda s: Times.of(0.0, deadline=s),
    "seconds": sleep,
    "timeout": lambda s: await_signal("x", timeout=s),
    "timeout ": lambda s: await_approval("x", timeout=s),
    "deadline ": lambda s: scatter(hello, deadline=s),
    "deadline  ": lambda s: scatter_map(hello, deadline=s),
    "timeout  ": lambda s: app.activity(name="bad", timeout=s)(lambda: None),
    "start_timeout": lambda s: app.activity(name="bad", start_timeout=s)(lambda: None),
    "heartbeat_timeout": lambda s: app.activity(name="bad", heartbeat_timeout=s)(lambda: None),
    "timeout   ": lambda s: ActivitySpec(name="x").options(timeout=s),
    "delay ": lambda s: RetryPolicy(delay=s),
    "max_delay": lambda s: RetryPolicy(max_delay=s),
    "seconds ": lambda s: Budget(seconds=s),
    "after": lambda s: Retry(after=s),
    "seconds  ": lambda s: Park("x", s),
    "lease_seconds": lambda s: load_settings(lease_seconds=s),
    "retention": lambda s: load_settings(retention=s),
    "shutdown_timeout": lambda s: load_settings(shutdown_timeout=s),
    "cancel_grace": lambda s: load_settings(cancel_grace=s),
}


@pytest.mark.parametrize("seconds", [MILLISECONDS, LONGEST + 1, float("inf"), float("nan")])
@pytest.mark.parametrize("name", DOORS)
def test_a_time_beyond_the_limit_is_refused_with_its_name(name: str, seconds: float) -> None:
    """Not by the first list that has to show it."""
    with pytest.raises((ConfigurationError, ValidationError)) as caught:
        DOORS[name](seconds)
    assert name.strip() in str(caught.value)


@pytest.mark.parametrize("name", [name for name in DOORS if name.strip() not in ("retention",)])
def test_a_time_of_years_is_accepted(name: str) -> None:
    """The limit is in nobody's way."""
    fresh = App("long", "memory://")
    doors = {"every": lambda s: fresh.schedule("long", "hello", every=s)}
    if "timeout" in name and name in ("timeout  ", "start_timeout", "heartbeat_timeout"):
        fresh.activity(name="long", **{name.strip(): LONGEST})(lambda: None)
    else:
        doors.get(name, DOORS[name])(LONGEST)


@pytest.mark.parametrize("times", [{"eta": datetime.max.replace(tzinfo=UTC), "expires": 10}, {"delay": timedelta.max}])
def test_no_moment_lies_after_the_year_9999(times: dict[str, Any]) -> None:
    """Where two times add up to one."""
    with pytest.raises(ConfigurationError):
        Times.of(0.0, **times)


def test_a_rate_over_centuries_is_refused() -> None:
    """Its period is a time, too."""
    with pytest.raises(ConfigurationError, match="a hundred years"):
        app.activity(name="bad", rate="1/99999999d")(lambda: None)


@pytest.mark.parametrize("odd", [1e12, 1e300, float("nan"), LATEST + 1, -1e15])
def test_a_list_survives_an_odd_row(odd: float) -> None:
    """Written by an older release, or by hand."""
    assert iso(odd) == readable(odd) == f"no date: {odd}"
    assert iso(LATEST) == "9999-12-31T23:59:59.000Z"

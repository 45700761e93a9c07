"""What a step has shown when its worker dies, or loses it, is marked as abandoned."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash.fleet import Fleet, Process
from helpers import until

Shown = list[tuple[str, Any, bool]]

FIRST = [f"{number} of delivery 1" for number in range(3)]
SECOND = [*(f"{number} of delivery 2" for number in range(3)), "last"]


@pytest.fixture(params=["sqlite", "redis and sqlite", "rabbitmq and postgres"])
def any_fleet(request: pytest.FixtureRequest, make_fleet: Callable[..., Fleet], prefix: str, tmp_path: Path) -> Fleet:
    """Workers on each kind of broker."""
    match request.param:
        case "sqlite":
            return make_fleet(f"sqlite:///{tmp_path}/paigeant.db", app_name=prefix)
        case "redis and sqlite":
            return make_fleet(request.getfixturevalue("redis_url"), f"sqlite:///{tmp_path}/store.db", app_name=prefix)
        case _:
            broker, store = request.getfixturevalue("rabbitmq_url"), request.getfixturevalue("postgres_url")
            return make_fleet(broker, store, app_name=prefix)


def read(fleet: Fleet, workflow: str, *, until_the_last_of: list[str], seen: Callable[[], None] | None = None) -> Shown:
    """What was shown, as it came; ``seen`` is called when the last of these values was."""

    async def follow() -> Shown:
        shown: Shown = []
        async with asyncio.timeout(60):
            async for event in fleet.app.workflow(workflow).events():
                if event.type in ("step_yielded", "step_restarted"):
                    value = event.data.get("value")
                    shown.append((event.type, value, event.abandoned))
                    if value == until_the_last_of[-1] and seen is not None:
                        await asyncio.to_thread(seen)
        return shown

    return asyncio.run(follow())


def values(shown: Shown) -> list[Any]:
    return [value for _, value, _ in shown]


def heir_of(fleet: Fleet, first: Process, number: int) -> Callable[[], None]:
    def take_over() -> None:
        first.signal(number)
        fleet.start()

    return take_over


def test_what_a_killed_worker_showed_is_marked(any_fleet: Fleet) -> None:
    """Who reads along sees the step begin anew; who comes later sees which values count for nothing."""
    fleet = any_fleet
    fleet.lease = 1.0
    first = fleet.start().ready()
    (workflow,) = fleet.dispatch("stream")
    live = read(fleet, workflow, until_the_last_of=FIRST, seen=heir_of(fleet, first, signal.SIGKILL))

    assert [one[0] for one in live] == ["step_yielded"] * 3 + ["step_restarted"] + ["step_yielded"] * 4
    assert values(live) == [*FIRST, None, *SECOND]
    assert not any(abandoned for *_, abandoned in live)
    late = read(fleet, workflow, until_the_last_of=FIRST)
    assert values(late) == values(live)
    assert [value for _, value, abandoned in late if abandoned] == FIRST


def test_what_a_worker_shows_that_lost_its_step_is_marked(fleet: Fleet) -> None:
    """It wakes up behind another, and either says nothing more or is marked."""
    fleet.lease = 1.0
    first = fleet.start().ready()
    (workflow,) = fleet.dispatch("stream")
    live = read(fleet, workflow, until_the_last_of=FIRST, seen=heir_of(fleet, first, signal.SIGSTOP))
    first.signal(signal.SIGCONT)
    until(lambda: "superseded" in first.log, 30)

    assert values([one for one in live if not one[2]]) == [*FIRST, None, *SECOND]
    late = read(fleet, workflow, until_the_last_of=FIRST)
    assert values([one for one in late if not one[2]]) == [None, *SECOND]
    assert set(FIRST) <= set(values([one for one in late if one[2]])) <= {*FIRST, "last"}

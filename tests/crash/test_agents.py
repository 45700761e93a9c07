"""An agent step whose worker is killed after each model request and tool call: none of them is done again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from crash.fleet import Fleet

from paigeant import ActivitySpec
from paigeant.usage import total

UNITS = ("model:1", "tool:1:a", "tool:1:b", "model:2", "tool:2:c", "model:3")
ANSWER = "rain in Rome; sun in Oslo; 30 cm of snow"


@pytest.fixture(params=["sqlite", "rabbitmq and postgres"])
def fleet(request: pytest.FixtureRequest, make_fleet: Callable[..., Fleet], tmp_path: Path, prefix: str) -> Fleet:
    """Workers on one file, and on a broker with a store beside it."""
    if request.param == "sqlite":
        return make_fleet(f"sqlite:///{tmp_path}/paigeant.db", lease=0.6)
    broker, store = (str(request.getfixturevalue(name)) for name in ("rabbitmq_url", "postgres_url"))
    return make_fleet(broker, store, app_name=prefix, lease=0.6)


def test_an_agent_killed_after_each_unit_in_turn_does_none_again(fleet: Fleet) -> None:
    """Each process finishes one unit and is killed before anybody can use it; the next one goes on from there."""
    (workflow,) = fleet.dispatch(ActivitySpec(name="weather", prompt="Weather?"))
    worker = fleet.start(AT="unit", AGENT="1", AGAIN="1", PAIGEANT_MAX_DELIVERIES="20")
    fleet.ended(workflow, deadline=60)

    assert worker.log.count("KILLING MYSELF unit") == len(UNITS)
    done = Counter(fact["what"] for fact in fleet.facts.notes())
    assert set(done) == set(UNITS)
    not_finished = {"tool:1:b"}  # its process was killed when its sibling was written down
    assert {unit for unit, times in done.items() if times != 1} <= not_finished

    async def what_came_of_it() -> tuple[str, list[str], tuple[int, ...]]:
        assert fleet.app.store is not None
        units = await fleet.app.store.units(workflow)
        used = total(unit.usage for unit in units)
        output = await fleet.app.workflow(workflow).result()
        keys = [unit.key for unit in units]
        return output, keys, (used.requests, used.tool_calls, used.input_tokens, used.output_tokens)

    output, keys, used = asyncio.run(what_came_of_it())
    assert output == ANSWER
    assert Counter(keys) == Counter(UNITS)
    assert used == (3, 3, 600, 30)

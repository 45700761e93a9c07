"""Agent steps whose workers are killed after each model request and tool call: none of them is done again."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from crash.fleet import Fleet
from helpers import until

from paigeant import ActivitySpec
from paigeant.wire.usage import total

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


def test_an_agent_that_asks_and_dispatches_is_killed_after_each_unit(fleet: Fleet) -> None:
    """Two tools run at once, one of which waits for a workflow of its own; another one needs an approval."""
    units = ("model:1", "tool:1:a", "tool:1:b", "model:2", "asked:2:c", "tool:2:c", "model:3")
    (workflow,) = fleet.dispatch(ActivitySpec(name="buyer", prompt="Buy tea."))
    worker = fleet.start(AT="unit", AGENT="1", AGAIN="1", PAIGEANT_MAX_DELIVERIES="20")
    store = fleet.app.store
    assert store is not None

    def asked() -> list[str]:
        return [one.detail["question"] for one in asyncio.run(store.held(workflow, "approval:"))]

    (question,) = until(asked, 60)
    assert "tool:2:c" not in {fact["what"] for fact in fleet.facts.notes()}
    asyncio.run(fleet.app.workflow(workflow).decide(True, question=question))
    fleet.ended(workflow, deadline=60)

    async def what_came_of_it() -> tuple[str, Counter[str], tuple[int, ...], list[str]]:
        found = await store.units(workflow)
        used = total(unit.usage for unit in found)
        output = await fleet.app.workflow(workflow).result()
        children = [one.status for one in await store.workflows(parent=workflow)]
        counted = (used.requests, used.tool_calls, used.input_tokens, used.output_tokens)
        return output, Counter(unit.key for unit in found), counted, children

    output, keys, used, children = asyncio.run(what_came_of_it())
    assert output == "tea is 9; 8; paid 900"
    assert worker.log.count("KILLING MYSELF unit") == len(units)
    assert keys == Counter(units)
    assert used == (3, 3, 600, 30)
    assert children == ["completed"]
    done = Counter(fact["what"] for fact in fleet.facts.notes() if fact["workflow"] == workflow)
    assert done == Counter(unit for unit in units if not unit.startswith("asked"))


def test_an_approval_comes_from_another_process_three_restarts_later(
    make_fleet: Callable[..., Fleet], tmp_path: Path
) -> None:
    """With other arguments: the tool runs once with them, although its worker is killed after it, too."""
    fleet = make_fleet(f"sqlite:///{tmp_path}/paigeant.db", lease=0.6)
    (workflow,) = fleet.dispatch(ActivitySpec(name="clerk", prompt="Refund Ann."))
    killed = {"AT": "unit", "AGENT": "1", "AGAIN": "1"}
    first = fleet.start(**killed)
    until(lambda: fleet.facts.one("SELECT count(*) FROM paigeant_wait"), 60)
    first.stop()
    assert first.log.count("KILLING MYSELF unit") == 2  # after the request, and after the other tool
    second = fleet.start(AGENT="1").ready()
    second.kill()

    def paigeant(*command: str) -> str:
        words = [sys.executable, "-m", "paigeant", *command, "--store", fleet.broker]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (asked,) = json.loads(paigeant("approvals", "--json"))
    question = ("--question", asked["question"])
    paigeant("approve", workflow, *question, "--arguments", '{"cents": 500}', "--by", "ann")
    last = fleet.start(**killed)
    fleet.ended(workflow, deadline=60)
    assert last.log.count("KILLING MYSELF unit") == 3  # with what was said, after the refund, and after the answer
    did = Counter(fact["what"] for fact in fleet.facts.notes())
    assert did == dict.fromkeys(("request", "look", "refund 500", "answer"), 1)
    assert asyncio.run(fleet.app.workflow(workflow).result()) == "looked and refunded 500"

"""Thousands of small worlds in which something goes wrong: no promise is broken in any of them.

A schedule is one simulated run: a world and a plan of faults that a seed chooses, on one tier. A failing schedule is
named by its kind and seed, and ``worlds.schedule(kind, seed).problems()`` plays it again.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from worlds import KINDS_OF_WORLDS, schedule

BLOCK = 100
"""How many schedules one test plays."""

BLOCKS = {
    "tiny": 150,
    "saga": 10,
    "doubted": 5,
    "losers": 3,
    "steered": 7,
    "crowd": 2,
    "hasty": 10,
    "people": 4,
    "two_apps": 3,
    "deployed": 3,
    "agents": 2,
    "deployed_agents": 1,
}
"""How many blocks of each kind the default run plays: 20,000 schedules in all."""

MORE = 1
"""How many times as many blocks the endurance run plays besides: as many schedules again."""


pytestmark = pytest.mark.usefixtures("quietly")


def _blocks() -> Iterator[object]:
    assert BLOCKS.keys() == KINDS_OF_WORLDS.keys()
    for kind, blocks in BLOCKS.items():
        for block in range(blocks * (1 + MORE)):
            marks = [pytest.mark.endurance] if block >= blocks else []
            yield pytest.param(kind, block, marks=marks, id=f"{kind}-{block}")


@pytest.mark.parametrize(("kind", "block"), [*_blocks()])
def test_no_promise_is_broken(kind, block):
    """Whatever the seeds of this block choose."""
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        assert schedule(kind, seed).problems() == [], f"worlds.schedule({kind!r}, {seed})"

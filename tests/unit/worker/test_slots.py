"""Slots: who runs, and how much is held in advance."""

from __future__ import annotations

import asyncio

import pytest

from paigeant.worker import slots
from paigeant.worker.slots import NoSlot, Slots

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_next_step_begins_when_the_body_of_the_one_before_has_ended():
    """What is left to do of a step needs no slot, and its slot is given back once."""
    held, begun, may_settle = Slots(1), list[int](), asyncio.Event()

    async def step(number: int) -> None:
        async with held.slot() as slot:
            begun.append(number)
            await turns(3)
            slot.ended()
            await may_settle.wait()

    steps = [asyncio.create_task(step(number)) for number in range(3)]
    await turns(30)
    assert begun == [0, 1, 2]
    may_settle.set()
    await asyncio.gather(*steps)
    first, second = held.slot(), held.slot()
    async with first:
        waiting = asyncio.create_task(second.__aenter__())
        await turns()
        assert not waiting.done()
    await waiting


async def test_what_is_held_in_advance_follows_what_ended_lately(monkeypatch):
    """Nothing at first, at most as much as runs, and nothing again when nothing ends."""
    monkeypatch.setattr(slots, "_PERIOD", 0.0)
    held = Slots(4)
    assert held.held() == 4
    for expected in (5, 6, 7, 8, 8):
        held.step_ended()
        assert held.held() == expected
    await turns(2)
    assert held.held() == 8
    await turns()
    assert held.held() == 4


async def test_a_fixed_number_stays():
    """Who says how much is to be held gets that."""
    held = Slots(4, 3)
    held.step_ended()
    assert held.held() == 3


async def test_what_waits_for_long_steps_is_given_back(monkeypatch):
    """The latest first, after a whole period, and not where a fixed number is held; the slots are whole afterwards."""
    monkeypatch.setattr(slots, "_PERIOD", 0.0)
    held, fixed = Slots(2), Slots(2, 6)

    async def wait(of: Slots) -> str:
        try:
            async with of.slot():
                return "ran"
        except NoSlot:
            return "given back"

    running = [held.slot(), held.slot(), fixed.slot(), fixed.slot()]
    for one in running:
        await one.__aenter__()
    held.step_ended()
    waiting = [asyncio.create_task(wait(held)) for _ in range(3)]
    patient = [asyncio.create_task(wait(fixed)) for _ in range(3)]
    await turns(1)
    assert not any(one.done() for one in waiting)
    await turns(20)
    assert [one.done() and one.result() for one in waiting] == ["given back"] * 3
    assert not any(one.done() for one in patient)
    for one in running:
        await one.__aexit__(None, None, None)
    assert await asyncio.gather(*patient) == ["ran"] * 3
    assert await asyncio.gather(*(wait(held) for _ in range(5))) == ["ran"] * 5


async def test_a_turn_that_comes_to_one_who_is_cancelled_goes_to_the_next():
    """No slot is lost with it."""
    held = Slots(1)
    first, second, third = held.slot(), held.slot(), held.slot()
    await first.__aenter__()
    cancelled, waiting = asyncio.create_task(second.__aenter__()), asyncio.create_task(third.__aenter__())
    await turns()
    first.ended()
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    await asyncio.wait_for(waiting, 5)

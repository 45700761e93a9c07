"""Schedules as rows: each due time is given to one caller, and an operator's word is kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from paigeant.records.workflow import ScheduleRecord
from paigeant.schedules import Timetable
from paigeant.stores.scheduled import LEFT_AFTER
from paigeant.stores.sql import SqlStore

pytestmark = pytest.mark.anyio

MINUTE = Timetable.of(every=60).definition
HOUR = Timetable.of(every=3600).definition
DEFINITIONS = {"nightly": MINUTE}


def declared(**fields) -> ScheduleRecord:
    return ScheduleRecord(**{"app": "shop", "name": "nightly", "definition": MINUTE, "next_at": 1020.0} | fields)


async def take(store, definitions=DEFINITIONS):
    taken, _ = await store.take_schedules("shop", definitions)
    return list(taken)


async def test_a_schedule_is_kept_as_registered(store):
    """And is that of its App: another may have one of the same name."""
    await store.register_schedules("shop", [declared()])
    await store.register_schedules("bank", [declared(app="bank", paused=True)])
    assert await store.schedules("shop") == [declared()]
    assert await store.schedules() == [declared(app="bank", paused=True), declared()]


async def test_registering_again_keeps_what_has_become_of_it(store, clock):
    """Every worker does it at its start: not when it is due, nor whether it is paused, is the code's to say again."""
    await store.register_schedules("shop", [declared()])
    clock.seconds = 1020.0
    [taken] = await take(store)
    await store.move_schedule(taken, 1080.0, 1020.0, "w1")
    await store.pause_schedule("shop", "nightly")
    await store.register_schedules("shop", [declared(next_at=2000.0)])
    assert await store.schedules() == [declared(next_at=1080.0, last_at=1020.0, last_id="w1", paused=True)]


async def test_a_changed_definition_has_a_new_time(store):
    """What it last did stays."""
    await store.register_schedules("shop", [declared()])
    await store.register_schedules("shop", [declared(definition=HOUR, next_at=3600.0)])
    assert await store.schedules() == [declared(definition=HOUR, next_at=3600.0)]


async def test_what_the_code_has_no_more_is_orphaned(store):
    """Not deleted; and when the code has it again, it goes on."""
    await store.register_schedules("shop", [declared(), declared(name="hourly")])
    await store.register_schedules("bank", [declared(app="bank")])
    await store.register_schedules("shop", [declared()])
    assert {(one.app, one.name): one.orphaned for one in await store.schedules()} == {
        ("bank", "nightly"): False,
        ("shop", "hourly"): True,
        ("shop", "nightly"): False,
    }
    await store.register_schedules("shop", [])
    assert [one.orphaned for one in await store.schedules("shop")] == [True, True]
    await store.register_schedules("shop", [declared(), declared(name="hourly")])
    assert [one.orphaned for one in await store.schedules("shop")] == [False, False]


async def test_what_is_due_is_taken_once(store, clock):
    """Not before its time, and not again until it was moved on."""
    await store.register_schedules("shop", [declared()])
    clock.seconds = 1019.9
    assert await take(store) == []
    clock.seconds = 1020.0
    [taken] = await take(store)
    assert taken == declared()
    assert await take(store) == []
    assert await store.move_schedule(taken, 1080.0, 1020.0, "w1")
    assert await take(store) == []
    clock.seconds = 1080.0
    assert [one.next_at for one in await take(store)] == [1080.0]


async def test_what_a_worker_took_and_left_is_taken_over(store, clock):
    """After a while; the one who was slow then moves nothing."""
    await store.register_schedules("shop", [declared()])
    clock.seconds = 1020.0
    [slow] = await take(store)
    clock.seconds += LEFT_AFTER
    assert await take(store) == []
    clock.seconds += 1
    [other] = await take(store)
    assert await store.move_schedule(other, 1080.0, 1020.0, "w1")
    assert not await store.move_schedule(slow, 1140.0, 1020.0, "other")
    assert [one.last_id for one in await store.schedules()] == ["w1"]


async def test_of_many_that_look_one_gets_it(url, store, clock):
    """Each over a connection of its own."""
    stores = [SqlStore(url, clock) for _ in range(4)] if url != "sqlite://" else []
    await store.register_schedules("shop", [declared()])
    clock.seconds = 1020.0
    taken = await asyncio.gather(*(take(one) for one in [store, *stores]))
    assert sum(map(len, taken)) == 1
    for one in stores:
        await one.close()


@pytest.mark.parametrize("definitions", [{}, {"nightly": HOUR}, {"hourly": MINUTE}], ids=["none", "other", "renamed"])
async def test_a_worker_takes_only_what_its_code_has(store, clock, definitions):
    """A worker of an older or a newer release leaves it to those whose code says the same as the row."""
    await store.register_schedules("shop", [declared()])
    clock.seconds = 1020.0
    assert await take(store, definitions) == []
    assert len(await take(store)) == 1


async def test_a_definition_that_changed_meanwhile_is_not_overwritten(store, clock):
    """A worker that is about to move it on is late."""
    await store.register_schedules("shop", [declared()])
    clock.seconds = 1020.0
    [taken] = await take(store)
    await store.register_schedules("shop", [declared(definition=HOUR)])
    assert not await store.move_schedule(taken, 1080.0, 1020.0, "w1")
    assert [one.next_at for one in await store.schedules()] == [1020.0]


async def test_a_paused_schedule_rests(store, clock):
    """Until it is resumed, with the time it is given; pausing or resuming twice is once."""
    await store.register_schedules("shop", [declared()])
    assert await store.pause_schedule("shop", "nightly")
    assert not await store.pause_schedule("shop", "nightly")
    clock.seconds = 1500.0
    assert await take(store) == []
    assert await store.resume_schedule("shop", "nightly", 1560.0)
    assert not await store.resume_schedule("shop", "nightly", 9999.0)
    assert await store.schedules() == [declared(next_at=1560.0)]
    clock.seconds = 1560.0
    assert len(await take(store)) == 1
    assert not await store.pause_schedule("shop", "hourly")
    assert not await store.pause_schedule("bank", "nightly")


async def test_an_error_is_kept_until_the_next_time(store, clock):
    """Beside the time it is about; times that were passed over change nothing of it."""
    await store.register_schedules("shop", [declared()])
    clock.seconds = 1020.0
    [taken] = await take(store)
    await store.move_schedule(taken, 1080.0, 1020.0, None, "ValueError: no")
    failed = declared(next_at=1080.0, last_at=1020.0, error="ValueError: no")
    assert await store.schedules() == [failed]
    clock.seconds = 1080.0
    [taken] = await take(store)
    await store.move_schedule(taken, None)
    assert await store.schedules() == [replace(failed, next_at=None)]

"""Who runs in a process: many beside each other, or one alone."""

from __future__ import annotations

import asyncio
import os

import pytest

from paigeant.worker.company import Company, Crowded, company_here

pytestmark = pytest.mark.anyio


async def test_one_is_alone_only_where_nobody_is():
    company = Company()
    async with company.place(0):
        assert not company.seclude()
    assert company.seclude()
    assert not company.seclude()
    with pytest.raises(Crowded):
        async with company.place(0):
            pass
    company.open()
    async with company.place(0):
        pass
    company.leave()
    assert company.seclude()


async def test_after_its_lone_period_it_still_counts():
    """Others come in again, and the next suspect waits until it has gone."""
    company = Company()
    assert company.seclude()
    company.open()
    assert not company.seclude()
    company.leave()
    assert company.seclude()


async def test_those_who_come_wait_a_moment():
    company = Company()
    assert company.seclude()

    async def come() -> bool:
        async with company.place(30):
            return True

    coming = asyncio.create_task(come())
    await asyncio.sleep(0)
    assert not coming.done()
    company.open()
    assert await coming


async def test_it_empties_because_nobody_else_comes_in():
    company, gone = Company(), asyncio.Event()

    async def stay() -> None:
        async with company.place(0):
            await gone.wait()

    staying = asyncio.create_task(stay())
    await asyncio.sleep(0)
    assert not await company.emptied(0.05)
    async with company.place(0):  # it was opened again
        pass
    emptying = asyncio.create_task(company.emptied(30))
    await asyncio.sleep(0)
    with pytest.raises(Crowded):
        async with company.place(0):
            pass
    gone.set()
    assert await emptying
    assert not await company.emptied(0)  # another one is alone already
    await staying


async def test_cancelled_while_it_empties_it_is_open():
    company = Company()
    async with company.place(0):
        emptying = asyncio.create_task(company.emptied(30))
        await asyncio.sleep(0)
        emptying.cancel()
        await asyncio.gather(emptying, return_exceptions=True)
        async with company.place(0):
            pass


def test_a_forked_child_runs_nothing():
    """It has none of its parent's steps, so its workers are not kept waiting by them."""
    assert company_here().seclude()
    child = os.fork()
    if child == 0:
        os._exit(0 if company_here().seclude() else 1)
    company_here().open()
    company_here().leave()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

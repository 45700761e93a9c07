"""How other threads are asked, and how often."""

from __future__ import annotations

import asyncio

from paigeant.io_thread import IOThread, OncePerTurn


def test_what_is_asked_often_in_one_turn_is_called_once():
    """At the end of the turn; what is asked later is called again."""
    calls = []

    async def ask(times: int) -> None:
        for _ in range(times):
            calling.ask()

    async def turns() -> None:
        await asyncio.gather(*(ask(3) for _ in range(50)))
        assert calls == [1]
        await ask(2)
        assert calls == [1]
        await asyncio.sleep(0)

    calling = OncePerTurn(lambda: calls.append(1))
    asyncio.run(turns())
    assert calls == [1, 1]


def test_outside_of_loops_it_is_called_at_once():
    """Nobody's turn would end."""
    calls = []
    OncePerTurn(lambda: calls.append(1)).ask()
    assert calls == [1]


def test_a_loop_that_ended_in_its_turn_keeps_nobody_waiting():
    """The next loop has turns of its own."""
    calls = []
    calling = OncePerTurn(lambda: calls.append(1))
    loop = asyncio.new_event_loop()
    loop.call_soon(calling.ask)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()

    async def again() -> None:
        calling.ask()
        await asyncio.sleep(0)

    asyncio.run(again())
    assert calls == [1]


def test_what_is_posted_runs_in_order_with_what_is_submitted():
    """In the one thread."""
    calls = []
    thread = IOThread("test")
    thread.post(lambda: calls.append("posted"))
    future = thread.submit(lambda: calls.append("submitted"))
    assert future.result(10) is None
    thread.stop()
    assert calls == ["posted", "submitted"]

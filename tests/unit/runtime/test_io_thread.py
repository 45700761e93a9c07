"""How other threads are asked, and how often."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from helpers import until

from paigeant.runtime.io_thread import IOThread, OncePerIteration, readable


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

    calling = OncePerIteration(lambda: calls.append(1))
    asyncio.run(turns())
    assert calls == [1, 1]


def test_outside_of_loops_it_is_called_at_once():
    """Nobody's turn would end."""
    calls = []
    OncePerIteration(lambda: calls.append(1)).ask()
    assert calls == [1]


def test_a_loop_that_ended_in_its_turn_keeps_nobody_waiting():
    """The next loop has turns of its own."""
    calls = []
    calling = OncePerIteration(lambda: calls.append(1))
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


@pytest.fixture
def many_files() -> Iterator[None]:
    """So many that the next one has a number that ``select`` does not know."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with ExitStack() as files:
        while (number := os.open(os.devnull, os.O_RDONLY)) < 1024:
            files.callback(os.close, number)
        files.callback(os.close, number)
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_process_with_many_files_hears_its_server():
    """What has come, and nothing else."""
    hears, speaks = socket.socketpair()
    with hears, speaks:
        both = [hears.fileno(), speaks.fileno()]
        assert readable(both, 0) == []
        speaks.send(b"!")
        assert readable(both, 10) == [hears.fileno()]


def test_a_call_made_while_the_thread_is_told_to_end_is_answered():
    """Nothing that is handed over is lost, and whoever ends the thread does not wait for ever."""
    thread, gate = IOThread("test"), threading.Event()
    thread.post(gate.wait)
    stopping = threading.Thread(target=thread.stop, daemon=True)
    stopping.start()
    until(lambda: thread._calls.qsize() == 1)
    late = threading.Thread(target=lambda: answers.append(thread.wait_for(lambda: "late", 10)), daemon=True)
    answers = list[str]()
    late.start()
    until(lambda: thread._calls.qsize() == 2)
    gate.set()
    stopping.join(10)
    late.join(10)
    assert (stopping.is_alive(), answers) == (False, ["late"])
    assert thread.wait_for(lambda: "again", 10) == "again"
    thread.stop()

from __future__ import annotations

import asyncio
import threading

import pytest
from helpers import until

from paigeant.context.pulse import Pulse
from paigeant.errors import AttemptEnded, DeadlineReached, HeartbeatTimeout

pytestmark = pytest.mark.anyio

LONG = 60.0


@pytest.mark.parametrize(
    ("silence", "timeout", "left", "error"),
    [
        (0.01, None, None, HeartbeatTimeout),
        (0.01, LONG, LONG, HeartbeatTimeout),
        (LONG, LONG, 0.01, DeadlineReached),
        (None, LONG, -5.0, DeadlineReached),
        (LONG, 0.01, LONG, TimeoutError),
    ],
)
async def test_an_attempt_is_ended_by_what_comes_first(silence, timeout, left, error):
    """And the error says which it was."""
    with pytest.raises(error) as ended:
        async with Pulse(silence).limited(timeout, left):
            await asyncio.Event().wait()
    assert type(ended.value) is error


async def test_a_timeout_of_the_activitys_own_is_its_own():
    """It is not taken for one of ours."""
    with pytest.raises(TimeoutError, match="the bank's") as ended:
        async with Pulse(LONG).limited(LONG, LONG):
            raise TimeoutError("the bank's")
    assert type(ended.value) is TimeoutError


async def test_each_sign_of_life_begins_the_silence_anew():
    """Whatever went before."""
    pulse = Pulse(LONG)
    async with pulse.limited(None, None):
        before = pulse._timeout.when()
        until(lambda: pulse.loop.time() > before - LONG)
        pulse.beat()
        assert pulse._timeout.when() > before


async def test_after_the_end_there_is_no_life():
    """So that a thread that was left behind stops."""
    pulse = Pulse()
    async with pulse.limited(None, None):
        pulse.beat()
    with pytest.raises(AttemptEnded):
        pulse.beat()


def test_a_thread_whose_loop_has_gone_is_told():
    """It must not wait for an answer that never comes."""

    async def make() -> Pulse:
        return Pulse()

    async def report() -> None: ...

    pulse = asyncio.run(make())
    told: list[BaseException] = []

    def call() -> None:
        try:
            pulse.from_thread(report)
        except AttemptEnded as error:
            told.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(LONG)
    assert len(told) == 1

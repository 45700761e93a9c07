"""Background tasks of a worker, in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from paigeant.testing.virtual import run_virtually
from paigeant.worker.tasks import KEEPS_FAILING, LONGEST_PAUSE, STEADY, Tasks, pauses


class Loop:
    """Fails as often as it is told to, then runs for ever; ``starts`` has the times."""

    def __init__(self, failures: int, error: BaseException, after: float = 0.0) -> None:
        self.starts: list[float] = []
        self._failures = failures
        self._error = error
        self._after = after

    async def __call__(self) -> None:
        self.starts.append(asyncio.get_running_loop().time())
        if len(self.starts) <= self._failures:
            await asyncio.sleep(self._after)
            raise self._error
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    "error", [KeyError("x"), RecursionError(), asyncio.CancelledError(), ExceptionGroup("x", [KeyError()])]
)
def test_a_loop_that_raises_is_started_again_with_growing_pauses(error):
    """Whatever it raises, a cancellation that nobody asked for included."""
    loop = Loop(12, error)

    async def main(_: object) -> None:
        async with Tasks() as tasks:
            tasks.start("timers", loop)
            await asyncio.sleep(600)

    run_virtually(main)
    waited = [later - earlier for earlier, later in zip(loop.starts, loop.starts[1:], strict=False)]

    assert len(loop.starts) == 13
    assert waited[0] <= 0.1
    assert LONGEST_PAUSE / 2 <= max(waited) <= LONGEST_PAUSE


def test_the_traceback_is_logged_once():
    """And a line says when the task runs again."""

    async def main(_: object) -> None:
        async with Tasks() as tasks:
            tasks.start("timers", Loop(5, KeyError("x")))
            await asyncio.sleep(600)

    with capture_logs() as logs:
        run_virtually(main)
    told = [one for one in logs if one["log_level"] != "debug"]

    assert [(one["event"], one["task"]) for one in told] == [
        ("a background task failed, restarting it", "timers"),
        ("a background task runs again", "timers"),
    ]
    assert isinstance(told[0]["exc_info"], KeyError)


def test_who_keeps_failing_is_named_until_it_runs_well():
    """One failure in hours is no reason to be not ready."""
    seen = []

    async def main(_: object) -> None:
        async with Tasks() as tasks:
            tasks.start("once", Loop(1, KeyError("x")))
            tasks.start("often", Loop(KEEPS_FAILING, ValueError("x")))
            await asyncio.sleep(STEADY / 2)
            seen.append(tasks.failing())
            await asyncio.sleep(STEADY)
            seen.append(tasks.failing())

    run_virtually(main)

    assert seen == [{"often": "ValueError"}, {}]


def test_a_failure_after_a_long_good_run_begins_to_count_anew():
    """So it is started again at once."""
    loop = Loop(8, KeyError("x"), after=STEADY + 1)

    async def main(_: object) -> None:
        async with Tasks() as tasks:
            tasks.start("timers", loop)
            await asyncio.sleep(1000)
            assert not tasks.failing()

    run_virtually(main)

    assert len(loop.starts) == 9
    assert max(later - earlier for earlier, later in zip(loop.starts, loop.starts[1:], strict=False)) < STEADY + 1.2


def test_a_loop_that_returns_is_left_alone_and_the_end_cancels_the_others():
    """Nothing of them is left."""
    begun, ended = [], []

    async def short() -> None:
        begun.append("short")

    async def long() -> None:
        begun.append("long")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("long")

    async def main(_: object) -> None:
        async with Tasks() as tasks:
            tasks.start("short", short)
            tasks.start("long", long)
            await asyncio.sleep(100)
        assert len(asyncio.all_tasks()) == 1

    run_virtually(main)

    assert (begun, ended) == (["short", "long"], ["long"])


def test_pauses_are_not_the_same_in_two_processes():
    """Or all of them would ask a server at once that has just come back."""
    first, second = (tuple(next(one) for one in [pauses()] * 8) for _ in range(2))

    assert first != second

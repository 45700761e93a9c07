from __future__ import annotations

import heapq
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from paigeant.runner.breaker import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, TRIALS, Breaker


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker()
    for number in range(FAILURES):
        breaker.failed(f"run {number}", f"step {number}", at)
    assert breaker.is_open
    return breaker


def test_as_long_as_something_works_everything_starts():
    """Failures in between are the steps' own."""
    breaker = Breaker()
    for number in range(100):
        for _ in range(FAILURES - 1):
            assert breaker.failed("run", f"step {number}", 0.0) is None
        breaker.succeeded()
        assert breaker.ask("other", 0.0) is None


def test_one_step_that_fails_says_nothing_of_the_others():
    """However often it does: its policy has an end."""
    breaker = Breaker()
    for _ in range(10 * FAILURES):
        assert breaker.failed("run", "the same", 0.0) is None
    assert not breaker.is_open
    breaker.failed("run", "another", 0.0)
    assert breaker.is_open


def test_after_failures_in_a_row_one_is_tried_at_a_time():
    """The others wait until the trial is over, and a pause more."""
    breaker = opened(at=100.0)
    assert 0 < breaker.ask("a", 100.0) <= 2 * FIRST_PAUSE
    now = 100.0 + FIRST_PAUSE
    assert breaker.ask("a", now) is None
    assert 0 < breaker.ask("b", now) <= 2 * FIRST_PAUSE
    assert breaker.failed("a", "step a", now) > 0
    assert breaker.ask("b", now + 2 * FIRST_PAUSE - 0.01) > 0
    assert breaker.ask("b", now + 2 * FIRST_PAUSE) is None


def test_after_so_many_failed_trials_the_failures_count_again():
    """A bug is no outage: its workflows end instead of waiting for ever. One success starts all over."""
    breaker, now = opened(), FIRST_PAUSE
    for trial in range(TRIALS):
        assert breaker.ask(f"run {trial}", now) is None
        pause = breaker.failed(f"run {trial}", "step", now)
        now += 2 * LONGEST_PAUSE
    assert pause is None
    assert not breaker.is_open
    assert [breaker.ask(name, now) for name in "abc"] == [None] * 3
    assert breaker.failed("a", "step a", now) is None
    breaker.succeeded()
    for number in range(FAILURES):
        breaker.failed(f"run {number}", f"step {number}", now)
    assert breaker.is_open


def test_each_trial_that_fails_doubles_the_pause_up_to_a_limit():
    """So that a dependency that is down for long is hardly asked."""
    breaker, now, pauses = opened(), FIRST_PAUSE, []
    for _ in range(8):
        assert breaker.ask("a", now) is None
        breaker.failed("a", "step", now)
        before = now
        now = breaker._next_at
        pauses.append(now - before)
    assert pauses == [2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]


def test_one_success_lets_everyone_in():
    """Also that of a run that began before."""
    breaker = opened()
    breaker.succeeded()
    assert not breaker.is_open
    assert breaker.ask("a", 0.0) is None
    assert breaker.ask("b", 0.0) is None


def test_a_trial_that_ends_without_a_verdict_makes_room_for_the_next():
    """Its worker was superseded, or its input was wrong: that says nothing."""
    breaker = opened()
    assert breaker.ask("a", FIRST_PAUSE) is None
    breaker.left("b")
    assert breaker.ask("b", FIRST_PAUSE) is not None
    breaker.left("a")
    assert breaker.ask("b", FIRST_PAUSE) is None


class OneAtATime(RuleBasedStateMachine):
    """Any order of runs that begin, fail, succeed and leave, of any steps, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker, self.now, self.running = Breaker(), 0.0, dict[str, bool]()
        self.numbers = itertools.count()
        self.failed_at = -1e9

    @rule(seconds=st.floats(0, 40))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def one_asks(self) -> None:
        run, open_before = str(next(self.numbers)), self.breaker.is_open
        pause = self.breaker.ask(run, self.now)
        assert pause is None or pause > 0
        if pause is None:
            self.running[run] = open_before
            assert not open_before or self.now >= self.failed_at + FIRST_PAUSE

    @precondition(lambda self: self.running)
    @rule(data=st.data(), step=st.integers(0, 3))
    def one_fails(self, data: st.DataObject, step: int) -> None:
        run = data.draw(st.sampled_from(sorted(self.running)))
        open_before, is_trial = self.breaker.is_open, self.running.pop(run)
        excused = self.breaker.failed(run, str(step), self.now)
        assert (excused is not None) == open_before
        if is_trial or self.breaker.is_open != open_before:
            self.failed_at = self.now
        self.breaker.left(run)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), works=st.booleans())
    def one_ends(self, data: st.DataObject, works: bool) -> None:
        run = data.draw(st.sampled_from(sorted(self.running)))
        del self.running[run]
        if works:
            self.breaker.succeeded()
            self.running = dict.fromkeys(self.running, False)
            assert not self.breaker.is_open
        self.breaker.left(run)

    @invariant()
    def one_trial_at_a_time(self) -> None:
        assert sum(self.running.values()) <= 1


TestOneAtATime = OneAtATime.TestCase


@pytest.mark.parametrize("workers", [1, 4])
def test_a_minute_without_the_dependency_costs_a_few_attempts(workers):
    """A thousand steps come in that minute, each worker tries some ten, and when it is over all of them run."""
    breakers = [Breaker() for _ in range(workers)]
    due = [(n * 0.06, n, breakers[n % workers]) for n in range(1000)]
    heapq.heapify(due)
    attempts = counted = done = 0
    now = 0.0
    while due:
        now, step, breaker = heapq.heappop(due)
        if (pause := breaker.ask(str(step), now)) is not None:
            heapq.heappush(due, (now + pause, step, breaker))
            continue
        if now >= 60:
            breaker.succeeded()
            done += 1
        else:
            attempts += 1
            excused = breaker.failed(str(step), str(step), now)
            counted += excused is None
            heapq.heappush(due, (now + (excused or 1.0), step, breaker))
        breaker.left(str(step))
    assert done == 1000
    assert counted == workers * FAILURES
    assert attempts <= workers * (FAILURES + 6)
    assert now < 60 + 3 * LONGEST_PAUSE


@given(st.lists(st.sampled_from(["a", "b"]), max_size=40))
def test_no_more_than_ten_failures_of_steps_count_before_they_are_excused(steps):
    """Unless they are all of one step."""
    breaker = Breaker()
    counted = [step for step in steps if breaker.failed(step, step, 0.0) is None]
    assert len(counted) <= FAILURES or len(set(counted[:-1])) == 1

"""What becomes of a message that may kill its worker, as a table, and for every history that can be."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant.transport import HANDED_ON, Delivery
from paigeant.worker.suspects import (
    HEADER,
    LONE_PERIODS,
    Alone,
    Condemn,
    Evidence,
    Limits,
    Look,
    Rewrite,
    Trial,
    Usual,
    judge,
    on_arrival,
    trial_of,
)

LIMITS = Limits.of(5, 30.0)
NEXT = "e"


def delivery(deliveries: int = 1, **headers: str) -> Delivery:
    return Delivery(queue="q", body=b"x", tag=1, id="m", deliveries=deliveries, headers=headers, priority=7)


@pytest.mark.parametrize(
    ("max_deliveries", "usual", "trials"), [(1, 1, 1), (2, 1, 1), (3, 1, 2), (4, 1, 3), (5, 2, 3), (1000, 997, 3)]
)
def test_a_killer_is_started_as_often_as_is_allowed(max_deliveries, usual, trials):
    """In company first, then alone; never condemned for a single death in company."""
    limits = Limits.of(max_deliveries, 30.0)
    assert (limits.usual, limits.trials) == (usual, trials)
    assert usual + trials == max(2, max_deliveries)


@pytest.mark.parametrize(("lease", "grace"), [(0.5, 5.0), (30.0, 60.0)])
def test_survivors_have_two_leases_to_speak(lease, grace):
    assert Limits.of(5, lease).grace == grace


@pytest.mark.parametrize(
    ("trial", "deliveries", "decision"),
    [
        (None, 1, Usual()),
        (None, 2, Usual()),
        (None, 3, Rewrite(Trial(NEXT, before=2))),
        (None, 40, Rewrite(Trial(NEXT, before=39))),
        (Trial("a", before=2), 1, Alone(Trial("a", before=2))),
        (Trial("a", before=2), 2, Rewrite(Trial("a", "doubt", before=3), 60.0)),
        (Trial("a", patience=1, before=2, fatal=("b",)), 3, Rewrite(Trial("a", "doubt", 1, 4, 0, ("b",)), 60.0)),
        (Trial("a", "doubt"), 1, Look(Trial("a", "doubt"))),
        (Trial("a", "doubt"), 9, Look(Trial("a", "doubt"))),
    ],
)
def test_on_arrival(trial, deliveries, decision):
    """Nothing is asked for the usual message; a suspect first gets its trial, or an answer to what became of it."""
    assert on_arrival(trial, deliveries, LIMITS, NEXT) == decision


BEGAN, LIVED = Evidence(True), Evidence(True, ("a",))


@pytest.mark.parametrize(
    ("fatal", "evidence", "after"),
    [
        ((), Evidence(False), Trial(NEXT, before=3)),
        ((), BEGAN, Trial(NEXT, before=3, fatal=("a",))),
        (("b",), BEGAN, Trial(NEXT, before=3, fatal=("b", "a"))),
        (("b", "c"), Evidence(False), Trial(NEXT, before=3, fatal=("b", "c"))),
        (("b", "c"), LIVED, Trial(NEXT, before=3, losses=1, fatal=("b", "c"))),
        (("b", "c"), Evidence(True, ("b",)), Trial(NEXT, before=3, fatal=("c", "a"))),
        (("b",), Evidence(True, ("a",), outlived=True), Trial(NEXT, patience=1, before=3, losses=1, fatal=("b",))),
    ],
    ids=["not begun", "died", "again", "not begun now", "lived", "a frozen process spoke late", "outlived its period"],
)
def test_judged(fatal, evidence, after):
    """Only a trial that began, and for which nobody has spoken, counts against the message."""
    assert judge(Trial("a", "doubt", before=3, fatal=fatal), 1, evidence, LIMITS, NEXT) == Rewrite(after)


def test_condemned_after_three_lone_deaths():
    """The reason says what was seen."""
    verdict = judge(Trial("a", "doubt", before=5, fatal=("b", "c")), 1, BEGAN, LIMITS, NEXT)
    assert isinstance(verdict, Condemn)
    assert (verdict.deliveries, verdict.unread, verdict.reason.type) == (5, False, "Poisoned")
    assert "delivered 5 times without an end; it ran alone in its process 3 times" in verdict.reason.message


def test_nobody_reads_what_kills_those_who_set_it_aside():
    verdict = judge(Trial("a", "doubt", before=5, fatal=("b", "c")), 11, BEGAN, LIMITS, NEXT)
    assert isinstance(verdict, Condemn)
    assert (verdict.deliveries, verdict.unread) == (15, True)


def test_what_a_living_process_keeps_losing_comes_back_more_slowly_and_not_for_ever():
    """Pauses grow to ten minutes; after thirty losses the reason is named, and it is not a death."""
    pauses, trial = list[float](), Trial("a", "doubt")
    while isinstance(verdict := judge(trial, 1, Evidence(True, (trial.name,)), LIMITS, "a"), Rewrite):
        pauses.append(verdict.delay)
        trial = Trial("a", "doubt", losses=verdict.trial.losses)
    assert pauses == sorted(pauses)
    assert (len(pauses), pauses[0], pauses[-1]) == (29, 0.0, 600.0)
    assert (verdict.reason.type, "30 times" in verdict.reason.message) == ("LeaseLost", True)


def test_lone_periods_grow_and_the_last_has_no_end():
    assert [Trial("a", patience=n).lone_period for n in range(5)] == [*LONE_PERIODS, math.inf]
    outlived = Evidence(True, ("a",), outlived=True)
    verdict = judge(Trial("a", "doubt", patience=3), 1, outlived, LIMITS, NEXT)
    assert isinstance(verdict, Rewrite)
    assert verdict.trial.patience == 3


TRIALS = st.builds(
    Trial,
    name=st.text("0123456789abcdef", min_size=1, max_size=32),
    state=st.sampled_from(["ready", "doubt"]),
    patience=st.integers(0, 9),
    before=st.integers(0, 10**9 - 1),
    losses=st.integers(0, 999),
    fatal=st.lists(st.text("0123456789abcdef", min_size=1, max_size=32), max_size=9).map(tuple),
)


@given(TRIALS)
def test_a_trial_travels_in_a_header(trial):
    assert trial_of({HEADER: str(trial)}) == trial


@given(st.text() | st.integers() | st.none() | st.binary())
def test_an_unreadable_header_counts_as_none(found):
    """Anybody may have put it there."""
    trial = trial_of({HEADER: found})
    assert trial is None or str(trial) == found


@pytest.mark.parametrize(
    ("deliveries", "headers", "is_suspect"),
    [(1, {}, False), (2, {}, False), (3, {}, True), (1, {HEADER: "ready a 0 2 0 "}, True), (1, {HEADER: "x"}, False)],
)
def test_who_is_a_suspect(deliveries, headers, is_suspect):
    assert LIMITS.suspects(delivery(deliveries, **headers)) is is_suspect


STEPS = st.sampled_from(["dies in company", "dies alone", "dies before", "lives", "outlives and dies"])


@given(st.lists(STEPS, max_size=40), st.integers(1, 8))
def test_no_history_condemns_without_lone_deaths_and_every_killer_is_condemned(history, max_deliveries):
    """A message goes through what happens to its workers; what is known of it is what the notes say."""
    limits = Limits.of(max_deliveries, 1.0)
    trial, deliveries, deaths = None, 1, 0
    for name, event in enumerate(history):
        if isinstance(trial, Trial) or deliveries > limits.usual:
            decision = on_arrival(trial, 1 if trial else deliveries, limits, f"{2 * name:x}")
            trial = decision.trial
            deaths += event == "dies alone"
            began = event != "dies before"
            spared = (trial.name,) if event in ("lives", "outlives and dies", "dies in company") else ()
            doubt = on_arrival(trial, 2, limits, "f")
            assert isinstance(doubt, Rewrite)
            evidence = Evidence(began, spared, event == "outlives and dies")
            verdict = judge(doubt.trial, 1, evidence, limits, f"{2 * name + 1:x}")
            if isinstance(verdict, Condemn):
                assert deaths == limits.trials or verdict.reason.type == "LeaseLost"
                return
            trial = verdict.trial
        else:
            deliveries += 1
    assert deaths < limits.trials


def test_a_copy_keeps_the_message_as_it_is():
    """Same id, body and priority; the broker's own headers stay behind, so that it counts from the start.

    It says that it is the message now, which nobody may drop as a duplicate.
    """
    original = delivery(3, **{"a": "b", "x-delivery-count": "2", "paigeant-deliveries": "1"})
    copy = original.copy({HEADER: "ready a 0 2 0 "}, 1.5)
    assert (copy.queue, copy.id, copy.body, copy.priority, copy.delay) == ("q", "m", b"x", 7, 1.5)
    assert copy.headers == {"a": "b", HANDED_ON: "1", HEADER: "ready a 0 2 0 "}

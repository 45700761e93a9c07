"""The checker of mixed runs finds each kind of fault that is planted, and nothing where there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from crash import mixed
from crash.ledger import Line
from crash.mixed import Shape
from crash.verdict import Facts, Letter, Verdict, judge, missing_times

ROOT = "w"
LIMITS = {"placed": 2}
LEASE = 10.0


def line(effect: str, kind: Any = "start", at: float = 0.0, **changes: Any) -> Line:
    """A line of the ledger; the message has the name of the effect."""
    fields: dict[str, Any] = {"root": ROOT, "workflow": ROOT, "step": effect, "message": effect, "attempt": 1}
    fields |= {"deliveries": 1, "pid": 1} | changes
    return Line(effect=effect, kind=kind, at=at, **fields)


def ran(*effects: str, at: float = 0.0) -> list[Line]:
    """Each of these starts and ends, one after the other."""
    return [one for n, effect in enumerate(effects) for one in (line(effect, at=at + n), line(effect, "done", at + n))]


def undo(*effects: str, at: float = 100.0) -> list[Line]:
    lines = []
    for number, effect in enumerate(effects):
        about = {"message": f"{effect} back", "at": at + number}
        lines += [line(effect, "undoing", **about), line(effect, "undone", **about)]
    return lines


LINEAR = Shape("linear", (), ("1", "2"))
TAKEN_BACK = Shape("compensation", (), ("1", "2", "3"), "compensated", ("3", "1"))
WAITING = Shape("sleeps", (), ("1", "2"), waits=((("1", "done"), ("2", "start"), 1.5),))
LOSING = Shape("scatter any", (), ("1",), maybe=("slow",))


def judged(shape: Shape, lines: list[Line], strict: bool = True, apart: bool = False, **facts: Any) -> Verdict:
    given = {"statuses": {ROOT: shape.status}} | facts
    rules: dict[str, Any] = {"limits": LIMITS, "values": 3, "lease": LEASE, "strict": strict, "apart": apart}
    return judge(Facts(lines=lines, **given), {ROOT: shape}, **rules)


@pytest.mark.parametrize(
    ("shape", "lines", "facts"),
    [
        (LINEAR, ran("1", "2"), {}),
        (LINEAR, ran("1", "2"), {"recorded": {"1": 0.5}}),
        (LINEAR, [line("1"), *ran("1", "2", at=3.0)], {"killed": {1: 2.0}}),
        (LINEAR, [line("1", message="1, first attempt"), *ran("1", "2")], {}),
        (TAKEN_BACK, [*ran("1", "2", "3"), *undo("3", "1")], {}),
        (TAKEN_BACK, [*ran("1", "2", "3"), *undo("3", "1")], {"letters": [Letter(ROOT, "exhausted", "meant")]}),
        (replace(TAKEN_BACK, ordered=False), [*ran("1", "2", "3"), *undo("1", "3")], {}),
        (LOSING, [line("slow"), *ran("1")], {"statuses": {ROOT: "completed", "child": "cancelled"}}),
        (Shape("stream", (), ("1",)), ran("1"), {"shown": {ROOT: [0, 1, 2]}}),
    ],
)
def test_nothing_is_wrong(shape: Shape, lines: list[Line], facts: dict[str, Any]) -> None:
    assert judged(shape, lines, **facts).faults == {}


NO_EFFECT = "effects neither completed nor compensated"


@pytest.mark.parametrize(
    ("wrong", "shape", "lines", "facts"),
    [
        ("workflows lost", LINEAR, ran("1", "2"), {"statuses": {ROOT: "running"}}),
        ("workflows lost", LINEAR, ran("1", "2"), {"statuses": {}}),
        ("workflows lost", LINEAR, ran("1", "2"), {"statuses": {ROOT: "failed"}}),
        (
            "workflows lost",
            LINEAR,
            ran("1", "2"),
            {"statuses": {ROOT: "completed", "child": "running"}, "parents": {"child": ROOT}},
        ),
        ("innocent dead letters", LINEAR, ran("1", "2"), {"letters": [Letter(ROOT, "exhausted", "no")]}),
        (
            "innocent dead letters",
            TAKEN_BACK,
            [*ran("1", "2", "3"), *undo("3", "1")],
            {"letters": [Letter(ROOT, "poison", "delivered 5 times")]},
        ),
        ("innocent dead letters", LINEAR, ran("1", "2"), {"letters": [Letter("", "unreadable", "no JSON")]}),
        ("finished steps run again", LINEAR, ran("1", "2") + ran("1", at=9.0), {"recorded": {"1": 5.0}}),
        (
            "finished steps run again",
            LINEAR,
            [*ran("1", "2"), line("1", unit="model:1", at=9.0), line("1", "done", unit="model:1", at=9.0)],
            {"units": {(ROOT, "model:1"): 5.0}},
        ),
        ("starts that no kill explains", LINEAR, [line("1"), *ran("1", "2", at=3.0)], {}),
        ("starts that no kill explains", LINEAR, [line("1"), *ran("1", "2", at=3.0)], {"killed": {1: 99.0}}),
        ("starts that no kill explains", LINEAR, [line("1"), *ran("1", "2", at=3.0)], {"killed": {2: 2.0}}),
        ("starts after a lease was over", LINEAR, [line("1"), *ran("1", "2", at=LEASE)], {}),
        (NO_EFFECT, LINEAR, ran("1"), {}),
        (NO_EFFECT, LINEAR, [*ran("1"), line("2")], {}),
        (NO_EFFECT, LINEAR, [*ran("1", "2"), line("unknown")], {}),
        (NO_EFFECT, LINEAR, [*ran("1", "2"), *undo("1")], {}),
        (NO_EFFECT, TAKEN_BACK, [*ran("1", "2", "3"), *undo("3")], {}),
        (NO_EFFECT, TAKEN_BACK, [*ran("1", "2", "3"), *undo("3", "1")[:-1]], {}),
        (NO_EFFECT, TAKEN_BACK, [*ran("1", "2", "3"), *undo("1", "3")], {}),
        (NO_EFFECT, TAKEN_BACK, [*ran("1", "2", "3"), *undo("3", "1"), *ran("1", at=200.0)], {}),
        ("timers fired early", WAITING, ran("1", "2"), {}),
        ("limits exceeded", LINEAR, [line(str(n), activity="placed") for n in (3, 4, 5)], {}),
        ("streams out of order", Shape("stream", (), ("1",)), ran("1"), {"shown": {ROOT: [0, 2, 1]}}),
        ("streams out of order", Shape("stream", (), ("1",)), ran("1"), {"shown": {ROOT: [0, 1, 1, 2]}}),
    ],
)
def test_a_planted_fault_is_found(wrong: str, shape: Shape, lines: list[Line], facts: dict[str, Any]) -> None:
    assert wrong in judged(shape, lines, **facts).faults


def test_a_few_starts_after_a_lease_are_no_fault() -> None:
    """A busy machine may leave a worker no time for so long; they are counted."""
    many = [str(number) for number in range(100)]
    verdict = judged(Shape("linear", (), tuple(many)), [line("1"), *ran(*many, at=LEASE)])
    assert (len(verdict.overdue), verdict.faults) == (1, {})


def test_where_a_broker_was_away_a_body_may_start_again() -> None:
    """But not after it has completed."""
    facts = Facts(lines=[line("1"), *ran("1", "2", at=3.0)], statuses={ROOT: "completed"})
    assert judge(facts, {ROOT: LINEAR}, limits=LIMITS, values=3, lease=LEASE, strict=False).faults == {}
    again = judge(
        replace(facts, recorded={"1": 2.0}), {ROOT: LINEAR}, limits=LIMITS, values=3, lease=LEASE, strict=False
    )
    assert [*again.faults] == ["finished steps run again"]


@pytest.mark.parametrize(("seconds", "faults"), [(0.2, []), (0.3, ["finished steps run again"])])
def test_an_answer_of_the_store_may_be_acted_on_for_a_quarter_of_a_second(seconds: float, faults: list[str]) -> None:
    """Where a broker was away, a copy may start on what the store said a moment before."""
    facts = Facts(lines=[line("1"), *ran("1", at=3.0)], statuses={ROOT: "completed"}, recorded={"1": 3.0 - seconds})
    shape = Shape("linear", (), ("1",))
    assert [*judge(facts, {ROOT: shape}, limits=LIMITS, values=3, lease=LEASE, strict=False).faults] == faults


def test_where_a_store_was_away_a_stream_may_lack_values() -> None:
    """But those that are there are in order, each once."""
    shape = Shape("stream", (), ("1",))
    for shown, wrong in (([0, 2], []), ([2, 0], ["streams out of order"]), ([0, 0], ["streams out of order"])):
        assert [*judged(shape, ran("1"), strict=False, shown={ROOT: shown}).faults] == wrong


def test_a_killed_process_gives_its_places_back() -> None:
    """It ran its bodies until its death, and not longer."""
    lines = [line(str(n), at=n, activity="placed", pid=n) for n in range(3)]
    assert "limits exceeded" not in judged(LINEAR, lines, killed={0: 1.5}).faults
    assert "limits exceeded" in judged(LINEAR, lines, killed={0: 2.5}).faults


def test_a_body_that_was_cut_short_gives_its_place_back() -> None:
    """Its process may go on for a while."""
    lines = [line(str(n), activity="placed", pid=n, kind=kind) for n in range(3) for kind in ("start", "cut short")]
    assert "limits exceeded" not in judged(LINEAR, lines).faults


def test_what_losers_leave_open_is_counted() -> None:
    verdict = judged(LOSING, [line("slow"), *ran("1")])
    assert (verdict.open_losers, verdict.faults) == (1, {})


def test_starts_are_counted() -> None:
    verdict = judged(LINEAR, [line("1"), *ran("1", "2", at=3.0)], killed={1: 2.0})
    assert (verdict.starts, verdict.restarts) == (3, 1)


def test_times_of_a_schedule_that_are_missing_or_come_twice_are_found() -> None:
    assert missing_times([6.0, 2.0, 4.0], 2.0) == []
    assert missing_times([2.0, 6.0], 2.0) == ["none between 2.0 and 6.0"]
    assert missing_times([2.0, 2.0, 4.0], 2.0) == ["2.0 came twice"]


def test_every_shape_says_what_must_come_of_each_of_its_effects() -> None:
    """An effect is expected once, and what is taken back was done."""
    for shape in mixed.by_name().values():
        assert len({*shape.done, *shape.maybe}) == len(shape.done) + len(shape.maybe)
        assert {*shape.undone} <= {*shape.done}


@pytest.mark.parametrize(
    ("apart", "killed", "faults"),
    [
        (True, 1.5, []),
        (False, 1.5, ["starts that no kill explains"]),
        (True, 0.5, ["starts that no kill explains"]),
        (True, 1.0 + LEASE + 1.0, ["starts that no kill explains"]),
    ],
)
def test_a_worker_that_is_killed_after_a_step_may_leave_its_successor_twice(
    apart: bool, killed: float, faults: list[str]
) -> None:
    """Where broker and store are apart; not if it was killed before the end of the step, or long after."""
    before = [line("1"), line("1", "done", 1.0)]
    twice = [line("2", at=20.0, pid=2), line("2", at=20.1, pid=3), line("2", "done", 21.0, pid=2)]
    assert [*judged(LINEAR, before + twice, apart=apart, killed={1: killed}).faults] == faults

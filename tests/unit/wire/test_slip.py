from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from pydantic import TypeAdapter, ValidationError
from unit.builders import entry, slip, slips

from paigeant.errors import NotSerializable
from paigeant.wire.slip import ActivitySpec, Heading, RoutingSlip


def ids(one: RoutingSlip) -> list[str]:
    return [step.id for step in one.itinerary]


@given(slips)
def test_a_slip_survives_the_wire(one):
    """JSON and dictionary forms both give the same slip back."""
    assert RoutingSlip.from_json(one.to_json()) == one
    assert RoutingSlip.from_dict(one.to_dict()) == one


@given(slips)
def test_every_step_has_an_id_of_its_own(one):
    """Message ids are derived from step ids, so no two steps may share one."""
    taken = [*ids(one), *(done.id for done in one.log)]
    assert all(taken)
    assert len(set(taken)) == len(taken)


def test_steps_are_numbered_in_order():
    """The usual case reads well in every table."""
    assert ids(slip("a", "b", "c")) == ["1", "2", "3"]


def test_numbers_go_around_ids_that_are_taken():
    """By other steps or by the log."""
    steps = (ActivitySpec(name="a"), ActivitySpec(name="b", id="3"), ActivitySpec(name="c"))
    one = RoutingSlip(itinerary=steps, log=(entry("1"),))
    assert ids(one) == ["4", "3", "5"]
    assert len({"1", *ids(one)}) == 4


def test_the_same_spec_may_stand_in_a_slip_twice():
    """A spec without an id is a plan; each place in the itinerary gets its own."""
    spec = ActivitySpec(name="a")
    assert ids(RoutingSlip(itinerary=(spec, spec))) == ["1", "2"]


@pytest.mark.parametrize(
    ("itinerary", "log"),
    [
        (("x", "x"), ()),
        (("x", "x", ""), ()),
        (("x",), ("x",)),
        (("x", ""), ("x",)),
        ((), ("x", "x")),
    ],
)
def test_two_steps_with_one_id_are_refused(itinerary, log):
    """Whether they are ahead, done, or stand among steps without an id."""
    steps = tuple(ActivitySpec(name="a", id=id) for id in itinerary)  # noqa: A001
    with pytest.raises(ValidationError, match="same id"):
        RoutingSlip(itinerary=steps, log=tuple(entry(id) for id in log))  # noqa: A001


def test_completing_moves_the_current_step_to_the_log():
    """And nothing else."""
    one = slip("a", "b", variables={"v": 1})
    moved = one.completed(entry("1", "a", output=5))
    assert ids(moved) == ["2"]
    assert [done.output for done in moved.log] == [5]
    assert moved.variables == {"v": 1}


def test_completing_leaves_the_old_slip_as_it_was():
    """A slip is a value; a failed settlement may need the old one again."""
    one = slip("a", "b", variables={"v": 1})
    one.completed(entry("1", "a"), {"v": 2})
    assert (len(one.itinerary), one.log, one.variables) == (2, (), {"v": 1})


def test_variables_are_replaced_as_a_whole():
    """A step that deleted a variable deleted it."""
    assert slip("a", "b", variables={"v": 1}).completed(entry("1"), {"w": 2}).variables == {"w": 2}


def test_a_slip_is_finished_when_nothing_is_ahead():
    """next_step and is_finished agree."""
    one = slip("a")
    done = one.mark_complete("a")
    assert (one.next_step().name, one.is_finished()) == ("a", False)
    assert (done.next_step(), done.is_finished()) == (None, True)


@pytest.mark.parametrize("step", ["a", "1", ActivitySpec(name="a")], ids=["name", "id", "spec"])
def test_a_step_is_marked_complete_by_name_id_or_spec(step):
    """Handlers that move slips by hand have one of these."""
    assert slip("a", "b").mark_complete(step, output=1).output("a") == 1


@pytest.mark.parametrize(
    ("names", "step", "words"),
    [(("a", "b"), "b", "the current step is 'a'"), ((), "a", "the slip is finished")],
)
def test_only_the_current_step_can_be_marked_complete(names, step, words):
    """Anything else is a mistake of the handler."""
    with pytest.raises(ValueError, match=words):
        slip(*names).mark_complete(step)


def test_outputs_are_found_by_name_or_id_the_latest_first():
    """A step that ran twice answers with its last output."""
    one = RoutingSlip(log=(entry("1", "a", 1), entry("2", "b", 2), entry("3", "a", 3)))
    assert [one.output(step) for step in ("a", "1", "b")] == [3, 1, 2]


def test_outputs_come_back_typed():
    """The log holds JSON types; the reader says what it expects."""
    assert RoutingSlip(log=(entry("1", "a", date(2026, 1, 2)),)).output("a", type=date) == date(2026, 1, 2)


def test_an_output_nobody_gave_is_a_clear_key_error():
    """It names the steps there are."""
    with pytest.raises(KeyError, match=r"no completed step 'x'; completed: \['a'\]"):
        RoutingSlip(log=(entry("1", "a"),)).output("x")


def test_an_agent_is_named_by_agent_name_as_well():
    """The source documents' spelling."""
    assert ActivitySpec(agent_name="writer") == ActivitySpec(name="writer")


def test_values_are_written_down_when_they_are_put_in():
    """So that a slip compares equal to its copy from the wire."""
    one = RoutingSlip(variables={"due": date(2026, 1, 2), "raw": b"\xff"})
    assert one.variables == {"due": "2026-01-02", "raw": "_w=="}


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: RoutingSlip(variables={"a": {"b": object()}}), r"variables\['a'\]\['b'\]"),
        (lambda: ActivitySpec(name="a", arguments={"x": [object()]}), r"arguments\['x'\]\[0\]"),
        (lambda: ActivitySpec(name="a", deps=[object()]), r"deps\[0\]"),
        (lambda: entry("1", output={"x": object()}), r"output\['x'\]"),
    ],
    ids=["variables", "arguments", "deps", "output"],
)
def test_what_cannot_be_written_is_refused_by_its_path(make, path):
    """The whole path, from the field on."""
    with pytest.raises(NotSerializable, match=f"^{path} cannot"):
        make()


def test_a_slip_heads_forward():
    """Until something has to be taken back."""
    assert slip("a").heading is Heading.FORWARD


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {},
        {"name": "a", "timeout": 0},
        {"name": "a", "timeout": float("inf")},
        {"name": "a", "priority": 10},
    ],
    ids=str,
)
def test_a_step_that_makes_no_sense_is_refused(fields):
    """At once, where it is written."""
    with pytest.raises(ValidationError):
        ActivitySpec(**fields)


def test_the_type_argument_of_a_step_is_for_type_checkers_only():
    """An annotation ``ActivitySpec[int]`` accepts any step, and pydantic reads it as the plain class."""
    assert ActivitySpec[int] is ActivitySpec
    assert TypeAdapter(list[ActivitySpec[int]]).validate_python([ActivitySpec(name="a")]) == [ActivitySpec(name="a")]

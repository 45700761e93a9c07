from __future__ import annotations

import copy
import inspect
import pickle
import traceback

import pytest

from paigeant import errors
from paigeant.errors import ConfigurationError, PaigeantError, StoreRequired, WorkflowError, WorkflowTimeout

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PaigeantError)]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_says_what_happened_without_being_told(kind):
    """The first line of its docstring is the default message."""
    if issubclass(kind, WorkflowError):
        error = kind("it ended", correlation_id="c1", hint="look")
        assert (error.correlation_id, error.hint) == ("c1", "look")
    else:
        assert str(kind()) == inspect.getdoc(kind).splitlines()[0]


def test_an_error_may_carry_a_hint():
    """What to do, apart from what happened."""
    error = StoreRequired("no store", hint="give one")
    assert (str(error), error.hint) == ("no store", "give one")


def test_a_timeout_is_what_python_calls_one():
    """``except TimeoutError`` catches it."""
    assert issubclass(WorkflowTimeout, TimeoutError)


def test_every_traceback_shows_the_hint():
    """Not only the command line: whoever sees the error sees what to do."""
    error = ConfigurationError("it is wrong", hint="make it right")
    assert "hint: make it right" in "".join(traceback.format_exception(error))
    assert "hint" not in "".join(traceback.format_exception(ConfigurationError("it is wrong")))


def _shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _made(kind: type[PaigeantError]) -> PaigeantError:
    more = {"correlation_id": "c1"} if issubclass(kind, WorkflowError) else {}
    return kind("it is wrong", hint="make it right", **more)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "carry", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copied", "pickled"]
)
def test_a_copy_of_an_error_shows_its_hint_once(kind, carry):
    """Attributes, arguments and notes travel along, and the copy's notes are its own."""
    error = _made(kind)
    error.add_note("seen in the kitchen")

    carried = carry(error)
    carried.add_note("seen in the copy")

    assert type(carried) is kind
    assert (str(carried), carried.hint, carried.args) == ("it is wrong", "make it right", ("it is wrong",))
    assert _shown(carried).count("hint: make it right") == 1
    assert "seen in the kitchen" in _shown(carried)
    assert "seen in the copy" not in _shown(error)
    assert getattr(carried, "correlation_id", None) == getattr(error, "correlation_id", None)


def test_an_error_that_is_raised_again_shows_its_hint_once():
    """Whoever catches and raises it adds nothing."""
    error = ConfigurationError("it is wrong", hint="make it right")
    for _ in range(2):
        with pytest.raises(ConfigurationError):
            raise error
    assert _shown(error).count("hint: make it right") == 1


def test_another_hint_takes_the_place_of_the_first():
    """The traceback shows the latest one, or none."""
    error = ConfigurationError("it is wrong", hint="make it right")
    error.hint = "ask somebody"
    assert "hint: ask somebody" in _shown(error)
    assert "make it right" not in _shown(error)

    error.hint = None
    assert "hint" not in _shown(error)

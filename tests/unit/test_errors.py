from __future__ import annotations

import inspect

import pytest

from paigeant import errors
from paigeant.errors import PaigeantError, StoreRequired, WorkflowError, WorkflowTimeout

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

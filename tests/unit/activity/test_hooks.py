"""What is called around a run, in what order, and what becomes of what it raises."""

from __future__ import annotations

import pytest

from paigeant.activity.hooks import Hooks
from paigeant.decisions.interrupts import Retry
from paigeant.errors import ConfigurationError

pytestmark = pytest.mark.anyio


@pytest.fixture
def told():
    """What was called, in this order."""
    return []


@pytest.fixture
def hooks(told):
    """Two of each kind, on an App and on an activity of it."""
    app = Hooks()
    activity = Hooks(app)
    for place, where in (("app", app), ("activity", activity)):
        for number in (1, 2):
            where.before(lambda ctx, name=f"{place} {number}": told.append(name))
            where.after(lambda ctx, output, name=f"{place} {number}": told.append((name, output)))
            where.on_failure(lambda ctx, error, name=f"{place} {number}": told.append((name, str(error))))
    return activity


async def call(hook, *given):
    hook(*given)


async def test_those_of_the_app_are_around_those_of_the_activity(hooks, told):
    """Within one place they come in the order in which they were registered."""
    await hooks.begin(None, call)
    await hooks.end(None, 5, call)
    await hooks.fail(None, OSError("no"), call)
    assert told == [
        *["app 1", "app 2", "activity 1", "activity 2"],
        *[("activity 1", 5), ("activity 2", 5), ("app 1", 5), ("app 2", 5)],
        *[("activity 1", "no"), ("activity 2", "no"), ("app 1", "no"), ("app 2", "no")],
    ]


async def test_after_one_that_raises_none_is_called(hooks, told):
    """What it raises is for whoever runs the activity."""

    @hooks.before
    def refuse(ctx):
        raise ValueError("no")

    hooks.before(lambda ctx: told.append("late"))
    with pytest.raises(ValueError, match="no"):
        await hooks.begin(None, call)
    assert told == ["app 1", "app 2", "activity 1", "activity 2"]


@pytest.mark.parametrize("raised", [OSError("broken"), Retry(), SystemExit(1)])
async def test_what_one_raises_that_looks_at_a_failure_changes_nothing(told, raised):
    """The others are told all the same."""
    hooks = Hooks()

    @hooks.on_failure
    def broken(ctx, error):
        raise raised

    hooks.on_failure(lambda ctx, error: told.append(str(error)))
    await hooks.fail(None, ValueError("no"), call)
    assert told == ["no"]


@pytest.mark.parametrize(
    ("kind", "hook"),
    [
        ("before", lambda: 0),
        ("after", lambda ctx: 0),
        ("on_failure", lambda ctx, error, more: 0),
        ("before", 5),
    ],
)
def test_what_cannot_be_called_so_is_refused_where_it_stands(kind, hook):
    """With what it is given."""
    with pytest.raises(ConfigurationError, match="cannot be a hook here") as raised:
        getattr(Hooks(), kind)(hook)
    assert "it is called with (ctx" in raised.value.hint

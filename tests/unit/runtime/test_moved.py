"""Old import paths of modules that moved."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from paigeant.runtime.moved import MOVED, install


@pytest.fixture
def forgetting(monkeypatch):
    """Old names are imported as for the first time, and forgotten afterwards."""
    for old in MOVED:
        monkeypatch.delitem(sys.modules, old, raising=False)
    yield
    for old in MOVED:
        sys.modules.pop(old, None)
        vars(import_module("paigeant")).pop(old.rpartition(".")[2], None)


@pytest.mark.parametrize("old", sorted(MOVED))
def test_a_module_is_found_by_its_old_name_with_a_warning(old, forgetting):
    """It is the same module, and keeps its own name."""
    with pytest.warns(DeprecationWarning, match=f"{old} has moved: import {MOVED[old]}") as told:
        exec(compile(f"import {old} as found", __file__, "exec"), names := {})
    found = names["found"]
    assert found is import_module(MOVED[old])
    assert found.__name__ == found.__spec__.name == MOVED[old]
    assert [one.filename for one in told] == [__file__]


@pytest.mark.parametrize(
    ("old", "name", "new"),
    [
        ("paigeant.records", "WorkflowRecord", "paigeant.records.workflow"),
        ("paigeant.wire", "WireModel", "paigeant.wire.model"),
        ("paigeant.dispatch", "Dispatcher", "paigeant.dispatch.dispatcher"),
    ],
)
def test_a_name_of_a_module_that_became_a_room(old, name, new):
    """The room is imported in silence."""
    with pytest.warns(DeprecationWarning, match=f"{old}.{name} has moved: import {new}.{name}"):
        found = getattr(import_module(old), name)
    assert found is getattr(import_module(new), name)
    with pytest.raises(AttributeError, match=f"module '{old}' has no attribute 'nothing'"):
        getattr(import_module(old), "nothing")  # noqa: B009 - a type checker would refuse the plain access


def test_what_never_was_is_not_found():
    """And a second install adds nothing."""
    before = list(sys.meta_path)
    install()
    assert sys.meta_path == before
    with pytest.raises(ModuleNotFoundError, match=r"paigeant\.nothing"):
        import_module("paigeant.nothing")

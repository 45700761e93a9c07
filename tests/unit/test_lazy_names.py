"""The names of the package, each imported when it is first asked for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def _run(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr


def test_who_looks_at_every_attribute_imports_nothing() -> None:
    """Tools that patch modules do so: freezegun, debuggers, mock's autospec."""
    look = "[getattr(paigeant, name) for name in dir(paigeant)]"
    _run(f"import sys, paigeant; {look}; assert not {{'pydantic_ai', 'kombu', 'sqlalchemy'}} & {{*sys.modules}}")


@pytest.mark.parametrize("first", ["", "paigeant.App('frozen', 'memory://');"])
def test_time_can_be_frozen_after_the_import(first: str) -> None:
    """Before and after the first use of a name."""
    pytest.importorskip("freezegun")
    freeze = "freezegun.freeze_time('2030-01-01').start(); assert datetime.datetime.now().year == 2030"
    _run(f"import datetime, freezegun, paigeant; {first} {freeze}; paigeant.App; paigeant.RetryPolicy(attempts=2)")

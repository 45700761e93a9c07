"""Old import paths. A module that moved can be imported by its old name for one release, with a warning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from importlib.abc import Loader

_ROOMS = {
    "activity": {"steps": "builtin", "scattering": "scatter", "observers": "observers"},
    "context": ("pulse",),
    "decisions": (
        "children", "compensate", "failure", "foreign", "forward", "idempotency", "interrupts", "outcome", "plan",
        "redrive",
    ),
    "dispatch": ("catalog", "timers"),
    "records": ("journal", "offer"),
    "runtime": ("clock", "code_version", "forks", "io_thread", "logs", "outage", "trouble", "urls"),
    "schedules": ("retention",),
    "wire": (
        "approval", "arrivals", "aside", "budget", "claim_check", "codec", "condition", "grant", "handed", "ids",
        "join", "json_schema", "message", "retry", "slip", "times", "typed_values", "usage", "values",
    ),
    "worker": ("health",),
    "workflow": ("runs",),
}  # fmt: skip
"""The modules that stood in the package's root, by the room where each is now."""

MOVED = {"paigeant.course": "paigeant.decisions.fork"} | {
    f"paigeant.{old}": f"paigeant.{room}.{new}"
    for room, names in _ROOMS.items()
    for old, new in (names.items() if isinstance(names, dict) else zip(names, names, strict=True))
}
"""The new name of each module by its old one."""


class _Finder:
    """Finder and loader, asked last: an import of a module that did not move never meets it.

    It does not inherit from the classes of ``importlib.abc``, whose import takes longer than all the rest here.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, cast("Loader", self)) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> None:
        """The import system makes an empty module, which is then replaced."""

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        _warn(old, MOVED[old])
        sys.modules[old] = import_module(MOVED[old])


def install() -> None:
    """Let every old name be imported. Safe to call again."""
    if not any(isinstance(one, _Finder) for one in sys.meta_path):
        sys.meta_path.append(_Finder())


def names_of(old: str, new: str) -> Callable[[str], Any]:
    """A ``__getattr__`` for the module ``old``, now a package, whose names are defined in the module ``new``."""

    def find(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        try:
            value = getattr(import_module(new), name)
        except AttributeError:
            raise AttributeError(f"module {old!r} has no attribute {name!r}") from None
        _warn(f"{old}.{name}", f"{new}.{name}")
        return value

    return find


def _warn(old: str, new: str) -> None:
    """Blame the import: the frames of the import system itself are not counted."""
    warnings.warn(f"{old} has moved: import {new}", DeprecationWarning, stacklevel=3)

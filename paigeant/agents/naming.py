"""Finds a name for an unnamed agent: that of the variable it is assigned to."""

from __future__ import annotations

import dis
from types import FrameType
from typing import Any

_STORES = ("STORE_NAME", "STORE_GLOBAL", "STORE_FAST", "STORE_DEREF", "STORE_ATTR")
_BESIDE_THE_POINT = ("CACHE", "COPY", "NOP", "EXTENDED_ARG", "LOAD_FAST", "LOAD_NAME", "LOAD_GLOBAL", "LOAD_DEREF")
"""Instructions between a call and the assignment of its result: ``self.writer = make(...)`` loads ``self`` first."""


def variable_of(value: Any, frame: FrameType) -> str | None:
    """The variable in this frame that refers to the object, or to which the result of the current call is assigned."""
    return _holding(value, frame) or _receiving(frame)


def _holding(value: Any, frame: FrameType) -> str | None:
    for scope in (frame.f_locals, frame.f_globals):
        for name, one in scope.items():
            if one is value and not name.startswith("_"):
                return name
    return None


def _receiving(frame: FrameType) -> str | None:
    """``writer`` while ``make(...)`` in ``writer = make(...)`` runs: the compiler stores right after the call."""
    following = (one for one in dis.get_instructions(frame.f_code) if one.offset > frame.f_lasti)
    for instruction in following:
        if instruction.opname.startswith(_STORES):
            stored = instruction.argval
            return stored[0] if isinstance(stored, tuple) else str(stored)
        if not instruction.opname.startswith(_BESIDE_THE_POINT):
            return None
    return None

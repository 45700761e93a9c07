"""Names of agents that were given none: that of the variable which holds them."""

from __future__ import annotations

import dis
from types import FrameType
from typing import Any

_STORES = ("STORE_NAME", "STORE_GLOBAL", "STORE_FAST", "STORE_DEREF", "STORE_ATTR")
_BESIDE_THE_POINT = ("CACHE", "COPY", "NOP", "EXTENDED_ARG", "LOAD_FAST", "LOAD_NAME", "LOAD_GLOBAL", "LOAD_DEREF")
"""What may stand between a call and where its value is stored: ``self.writer = make(...)`` loads ``self`` first."""


def variable_of(value: Any, frame: FrameType) -> str | None:
    """The variable that holds this very object where the frame is, or that takes what its current call returns."""
    return _holding(value, frame) or _receiving(frame)


def _holding(value: Any, frame: FrameType) -> str | None:
    for scope in (frame.f_locals, frame.f_globals):
        for name, one in scope.items():
            if one is value and not name.startswith("_"):
                return name
    return None


def _receiving(frame: FrameType) -> str | None:
    """``writer`` while the right side of ``writer = make(...)`` runs: the compiler stores right after the call."""
    following = (one for one in dis.get_instructions(frame.f_code) if one.offset > frame.f_lasti)
    for instruction in following:
        if instruction.opname.startswith(_STORES):
            stored = instruction.argval
            return stored[0] if isinstance(stored, tuple) else str(stored)
        if not instruction.opname.startswith(_BESIDE_THE_POINT):
            return None
    return None

"""What a tool changes in its workflow, kept apart: so that a call which is not made again changes it as well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

from paigeant.context.activity_context import ActivityContext, _current
from paigeant.context.variables import Variables
from paigeant.message import PaigeantMessage
from paigeant.outcome import Edits
from paigeant.slip import ActivitySpec


@dataclass(frozen=True, slots=True)
class Apart:
    """A context of a tool call's own, that sees all of the step's and keeps its changes to itself."""

    context: ActivityContext
    awaited_before: Counter[str]

    def effects(self) -> dict[str, Any]:
        """What was changed through it, as JSON types."""
        edits, (changed, deleted) = self.context.edits, self.context.variables.differences()
        found: dict[str, Any] = {
            "insert": [step.to_dict() for step in edits.insert],
            "skip": list(edits.skip),
            "children": [child.to_dict() for child in edits.children],
            "set": changed,
            "delete": deleted,
            "awaited": dict(self.context._awaited - self.awaited_before),
        }
        return {name: value for name, value in found.items() if value}


@contextmanager
def apart(context: ActivityContext, unit: str) -> Iterator[Apart]:
    """Makes a context of its own the current one."""
    own = copy(context)
    own._unit = unit
    own._edits = Edits()
    own._inserted_before = context.inserting
    own._awaited = Counter(context._awaited)
    own.variables = Variables(dict(context.variables))
    token = _current.set(own)
    try:
        yield Apart(own, Counter(context._awaited))
    finally:
        _current.reset(token)


def bring(context: ActivityContext, effects: Mapping[str, Any]) -> None:
    """Change the step's context so."""
    edits = context.edits
    context._edits = Edits(
        insert=(*edits.insert, *map(ActivitySpec.from_dict, effects.get("insert", ()))),
        skip=(*edits.skip, *effects.get("skip", ())),
        children=(*edits.children, *map(PaigeantMessage.from_dict, effects.get("children", ()))),
    )
    context.variables.update(effects.get("set", {}))
    for name in effects.get("delete", ()):
        context.variables.pop(name, None)
    context._awaited.update(effects.get("awaited", {}))

"""What the steps of a workflow may change in its itinerary, and what is beyond that. Pure; it travels in the slip."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Self

from pydantic import Field

from paigeant.wire.model import Label, WireModel

_MOST = 1_000_000


class Allowance(WireModel):
    """What one activity may insert: only ``activities``, or all; at most ``steps``, by all its runs in a workflow."""

    activities: tuple[Label, ...] | None = None
    steps: Annotated[int, Field(ge=0, le=_MOST)] = _MOST

    def refuses(self, editor: str, activities: Collection[str], inserted: int) -> str | None:
        """Why the activity may not insert steps of these, after so many others of its own; None if it may."""
        if self.activities is not None and (beyond := [one for one in activities if one not in self.activities]):
            return f"{beyond[0]!r} may not be inserted by {editor!r}; {_listed(self.activities)} may"
        if inserted + len(activities) > self.steps:
            return f"{inserted + len(activities)} steps would be inserted by {editor!r}, and {self.steps} may be"
        return None


class Grant(WireModel):
    """Who may insert steps, skip them and end the workflow early: the activities ``editors``, or all.

    Only ``activities``, or all, may be inserted; at most ``steps`` in all. A step that was inserted may insert again,
    and those it inserted again, until they are ``depth`` deep. Steps inside a scatter count as steps. ``allowances``
    say what single activities may insert, where that is less.
    """

    editors: tuple[Label, ...] | None = None
    activities: tuple[Label, ...] | None = None
    steps: Annotated[int, Field(ge=0, le=_MOST)] = 100
    depth: Annotated[int, Field(ge=0, le=_MOST)] = 10
    allowances: dict[Label, Allowance] = Field(default_factory=dict)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Itself: nothing changes it, and pydantic copies the default of a field for each message it reads."""
        return self

    def refuses_editor(self, activity: str) -> str | None:
        """Why this activity may not change the itinerary; None if it may."""
        if self.editors is None or activity in self.editors:
            return None
        return f"{activity!r} may not change the itinerary; {_listed(self.editors)} may"

    def left(self, editor: str, depth: int, inserted: Mapping[str, int]) -> int:
        """How many steps, so deep, the editor may still insert; ``inserted`` as in :meth:`refuses_steps`."""
        if self.refuses_editor(editor) is not None or depth > self.depth:
            return 0
        allowance = self.allowances.get(editor, _UNLIMITED)
        return max(0, min(self.steps - sum(inserted.values()), allowance.steps - inserted.get(editor, 0)))

    def allows(self, editor: str, activity: str) -> bool:
        """Whether the editor may insert steps of this activity, if any is left."""
        lists = (self.activities, self.allowances.get(editor, _UNLIMITED).activities)
        return all(one is None or activity in one for one in lists)

    def refuses_steps(
        self, editor: str, activities: Collection[str], depth: int, inserted: Mapping[str, int]
    ) -> str | None:
        """Why the editor may not insert steps of these activities so deep; None if it may.

        ``inserted`` is how many each activity has inserted before.
        """
        if self.activities is not None and (beyond := [one for one in activities if one not in self.activities]):
            return f"{beyond[0]!r} may not be inserted; {_listed(self.activities)} may"
        if (number := sum(inserted.values()) + len(activities)) > self.steps:
            return f"{number} steps would be inserted in all, and {self.steps} may be"
        if depth > self.depth:
            return f"the steps would be {depth} deep, inserted by inserted ones, and {self.depth} is the limit"
        allowance = self.allowances.get(editor, _UNLIMITED)
        return allowance.refuses(editor, activities, inserted.get(editor, 0))


_UNLIMITED = Allowance()


def _listed(names: Collection[str]) -> str:
    return ", ".join(map(repr, names)) or "none"

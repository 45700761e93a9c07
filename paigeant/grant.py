"""What the steps of a workflow may change in its itinerary, and what is beyond that. Pure; it travels in the slip."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import Field

from paigeant.wire import Label, WireModel

_MOST = 1_000_000


class Grant(WireModel):
    """Who may insert steps, skip them and end the workflow early: the activities ``editors``, or all.

    Only ``activities``, or all, may be inserted; at most ``steps`` in all. A step that was inserted may insert again,
    and those it inserted again, until they are ``depth`` deep. Steps inside a scatter count as steps.
    """

    editors: tuple[Label, ...] | None = None
    activities: tuple[Label, ...] | None = None
    steps: Annotated[int, Field(ge=0, le=_MOST)] = 100
    depth: Annotated[int, Field(ge=0, le=_MOST)] = 10

    def refuses_editor(self, activity: str) -> str | None:
        """Why this activity may not change the itinerary; None if it may."""
        if self.editors is None or activity in self.editors:
            return None
        return f"{activity!r} may not change the itinerary; {_listed(self.editors)} may"

    def refuses_steps(self, activities: Collection[str], depth: int, inserted: int) -> str | None:
        """Why steps of these activities may not be inserted so deep, after so many others; None if they may."""
        if self.activities is not None and (beyond := [one for one in activities if one not in self.activities]):
            return f"{beyond[0]!r} may not be inserted; {_listed(self.activities)} may"
        if inserted + len(activities) > self.steps:
            return f"{inserted + len(activities)} steps would be inserted in all, and {self.steps} may be"
        if depth > self.depth:
            return f"the steps would be {depth} deep, inserted by inserted ones, and {self.depth} is the limit"
        return None


def _listed(names: Collection[str]) -> str:
    return ", ".join(map(repr, names)) or "none"

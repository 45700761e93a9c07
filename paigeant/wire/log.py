"""The log of a routing slip: the steps that completed, how each can be undone, and the fault that turned the slip."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar

from pydantic import Field

from paigeant.wire.claim_check import Holder
from paigeant.wire.model import Label, WireModel
from paigeant.wire.values import Json, JsonObject


class Undo(Holder):
    """How a completed step is taken back: where its compensation is served, and its arguments as recorded."""

    TABLES: ClassVar = ("arguments",)

    queue: Label | None = None
    arguments: JsonObject = Field(default_factory=dict)


class LogEntry(Holder):
    """A completed step, with what it gave and who ran it when. ``undo`` is None where nothing takes it back.

    ``source`` is the id of the message that was completed. Of an entry that is ``aside`` the output is in the store,
    under that id, and who ran it when is left out.
    """

    FIELDS: ClassVar = ("output",)

    id: Label
    name: Label
    output: Json = None
    attempt: Annotated[int, Field(ge=0, le=1_000_000_000)] = 1
    worker: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    undo: Undo | None = None
    source: Label | None = None
    aside: bool = False

    @property
    def is_brief(self) -> bool:
        """Whether nothing more can be left out of it."""
        is_short = self.worker == "" and self.started_at is None and _is_short(self.output)
        return self.aside or self.source is None or is_short

    def briefly(self) -> LogEntry:
        """The entry with its output in the store, or still here when that is the shorter."""
        if self.is_brief:
            return self
        kept: dict[str, Any] = {"id": self.id, "name": self.name, "undo": self.undo, "source": self.source}
        if self.undo is not None:  # steps of branches are taken back in the order of their completion
            kept["finished_at"] = self.finished_at
        if _is_short(self.output) or self.source is None:
            return LogEntry(**kept, output=self.output)
        return LogEntry(**kept, aside=True)


def _is_short(output: Any) -> bool:
    return output is None or isinstance(output, bool | int | float) or (isinstance(output, str) and len(output) < 40)


class Fault(WireModel):
    """Why a slip was turned back: the step that failed and its error.

    ``left`` are the steps whose compensation failed for good, so that they still stand.
    """

    step: Label
    type: str
    message: str = ""
    left: tuple[Label, ...] = ()

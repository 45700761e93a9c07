"""A role of a store: schedules."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from paigeant.records.workflow import ScheduleRecord
from paigeant.store.shared import Shared


class Schedules(Shared, Protocol):
    """Schedules of Apps, and when each is due next."""

    @abstractmethod
    async def register_schedules(self, app: str, declared: Sequence[ScheduleRecord]) -> None:
        """Record the schedules that the code of an App declares, and mark its other schedules as orphaned.

        A known schedule keeps its next time unless its definition has changed. It also stays paused.
        """

    @abstractmethod
    async def take_schedules(
        self, app: str, definitions: Mapping[str, Mapping[str, Any]]
    ) -> tuple[Sequence[ScheduleRecord], float]:
        """Take the named schedules that are due and have this definition. Also returns the time now.

        Each goes to one caller. A schedule whose taker died, and did not move it for a while, is due again.
        """

    @abstractmethod
    async def move_schedule(
        self,
        taken: ScheduleRecord,
        next_at: float | None,
        last_at: float | None = None,
        last_id: str | None = None,
        error: str | None = None,
    ) -> bool:
        """Set the next time of a taken schedule, and its last run. Returns False if it has changed since.

        Without ``last_at``, the record of the last run does not change.
        """

    @abstractmethod
    async def pause_schedule(self, app: str, name: str) -> bool:
        """Pause a schedule. Returns False if there is no active one of this name."""

    @abstractmethod
    async def resume_schedule(self, app: str, name: str, next_at: float | None) -> bool:
        """Resume a paused schedule with this next time. Returns False if there is no paused one of this name."""

    @abstractmethod
    async def delete_schedule(self, app: str, name: str) -> bool:
        """Delete a schedule that no living worker declares. Returns False if there is none.

        A schedule of an App with living workers must be orphaned first.
        """

    @abstractmethod
    async def schedules(self, app: str | None = None) -> Sequence[ScheduleRecord]:
        """List the schedules of an App (default: of all Apps), by App and name."""

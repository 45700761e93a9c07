"""A role of a store: reading what happened in workflows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from paigeant.records.workflow import Course, EventRecord, WorkflowRecord
from paigeant.store.shared import Shared


@runtime_checkable
class SagaRepository(Protocol):
    """The read side of a store: the state of workflows by correlation id. ``app.store`` is one.

    Every method may be called from any event loop.

    Raises everywhere:
        StoreError: the database is unreachable or refused the call.
    """

    @abstractmethod
    async def workflow(self, correlation_id: str) -> WorkflowRecord | None:
        """Return one workflow with its steps, or None."""

    @abstractmethod
    async def brief(self, correlation_id: str) -> WorkflowRecord | None:
        """Return one workflow without its steps, or None. This reads one row, however long the history is."""

    @abstractmethod
    async def planned_end(self, correlation_id: str) -> str | None:
        """Return the activity of the last step of the plan at dispatch, if that step completed last; else None."""

    @abstractmethod
    async def find(self, prefix: str) -> Sequence[str]:
        """Return at most ten ids of workflows that begin with the prefix."""

    @abstractmethod
    async def workflows(
        self,
        *,
        status: str | None = None,
        name: str | None = None,
        app: str | None = None,
        parent: str | None = None,
        limit: int = 20,
    ) -> Sequence[WorkflowRecord]:
        """List workflows without their steps, newest first.

        ``parent`` is the workflow that dispatched them; ``""`` selects workflows without a parent.
        """

    @abstractmethod
    async def counts(self) -> dict[str, int]:
        """Count the workflows of each status."""

    @abstractmethod
    async def events(self, correlation_id: str, after: int = 0, limit: int = 1000) -> Sequence[EventRecord]:
        """Return the events of a workflow with an offset greater than ``after``, in order."""

    @abstractmethod
    async def passing(self, correlation_id: str) -> int:
        """Count the events of a workflow that expire."""

    @abstractmethod
    async def await_end(self, correlation_id: str) -> None:
        """Wait until the workflow has ended."""

    @abstractmethod
    async def await_event(self, correlation_id: str, after: int) -> None:
        """Wait until the workflow has an event with an offset greater than ``after``, or has ended."""


class History(SagaRepository, Shared, Protocol):
    """Workflows, their steps, their outputs and their events."""

    @abstractmethod
    def output(self, message_id: str, reader: str) -> Any:
        """Return the output of the step that this message completed. Blocks, because plain functions call it too.

        ``reader`` is the workflow that reads it; see :meth:`readable`.

        Raises:
            ValueMissing: the store has no such output.
            ForeignValue: the output belongs to a workflow that this one may not read.
        """

    @abstractmethod
    async def readable(self, correlation_id: str, owners: Collection[str]) -> Collection[str]:
        """Return those of these workflows whose outputs and large values this workflow may read.

        They are the workflow itself, its ancestors, those of which it is a fork, and the children of itself and of
        those; all as the store has recorded them.
        """

    @abstractmethod
    async def courses(self, correlation_ids: Collection[str]) -> Mapping[str, Course]:
        """Return the slip at dispatch and the completed steps of those workflows that are known."""

    async def course(self, correlation_id: str) -> Course | None:
        """Return the slip at dispatch and the completed steps of one workflow, or None."""
        return (await self.courses([correlation_id])).get(correlation_id)

    @abstractmethod
    async def plans(self, correlation_ids: Collection[str]) -> Mapping[str, tuple[str, Mapping[str, Any] | None]]:
        """Return name and slip at dispatch of those workflows whose dispatch is recorded.

        The slip is None if it was not stored.
        """

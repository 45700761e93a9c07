"""The handle of a running workflow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError
from pydantic.errors import PydanticUserError

from paigeant.context import signal_key
from paigeant.errors import (
    ConfigurationError,
    SchemaTooNew,
    StoreError,
    StoreRefused,
    StoreRequired,
    WorkflowCancelled,
    WorkflowError,
    WorkflowFailed,
    WorkflowNotFound,
    WorkflowTimeout,
)
from paigeant.events import LAST
from paigeant.store import EventRecord, Status, Store, WorkflowRecord
from paigeant.timers import Timers
from paigeant.values import jsonable, revive

T = TypeVar("T")

log = structlog.stdlib.get_logger("paigeant.workflow")

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


class Workflow:
    """What ``app.dispatch`` returns. Awaiting it waits until the broker has the first message.

    Everything but the id is read from the store.
    """

    def __init__(
        self,
        correlation_id: str,
        store: Store | None,
        *,
        timers: Timers | None = None,
        output_type: Any = Any,
        last_step: str | None = None,
        sent: asyncio.Task[None] | None = None,
    ) -> None:
        self.correlation_id = correlation_id
        self._store = store
        self._timers = timers
        self._output_type = output_type
        self._last_step = last_step
        self._sent = sent
        self._outage: StoreError | None = None

    def __repr__(self) -> str:
        return f"<workflow {self.correlation_id}>"

    def __str__(self) -> str:
        return self.correlation_id

    def __await__(self) -> Generator[Any, None, Workflow]:
        if self._sent is not None:
            yield from asyncio.shield(self._sent).__await__()
        return self

    async def record(self) -> WorkflowRecord:
        """All that is known about the workflow.

        Raises:
            WorkflowNotFound, StoreRequired.
        """
        await self
        found = await self._required_store().workflow(self.correlation_id)
        if found is None:
            raise WorkflowNotFound(f"no workflow {self.correlation_id!r}", correlation_id=self.correlation_id)
        return found

    async def status(self) -> Status:
        """Where the workflow stands."""
        return (await self.record()).status

    async def result(self, timeout: float | None = None) -> Any:
        """The output of the last step, once the workflow has completed.

        Raises:
            WorkflowFailed: with the error of the step that failed.
            WorkflowCancelled: somebody ended it.
            WorkflowTimeout: after ``timeout`` seconds; the workflow goes on. It says so when the store is unreachable,
                which is waited out and is no error by itself.
            WorkflowError: the output does not fit the last activity's return annotation.
        """
        try:
            async with asyncio.timeout(timeout):
                ended = await self._ended()
        except TimeoutError as error:
            if isinstance(error, WorkflowTimeout):
                raise
            raise self._timed_out(timeout) from None
        if ended.status is Status.COMPLETED:
            return self._typed(ended.output) if self._ended_as_planned(ended) else ended.output
        if ended.status is Status.CANCELLED:
            raise WorkflowCancelled(f"workflow {self.correlation_id} was cancelled", correlation_id=self.correlation_id)
        raise WorkflowFailed(
            f"workflow {self.correlation_id} failed: {ended.error}",
            correlation_id=self.correlation_id,
            hint=f"see: paigeant workflow {self.correlation_id}",
        )

    def _timed_out(self, timeout: float | None) -> WorkflowTimeout:
        text, hint = f"workflow {self.correlation_id} did not end within {timeout:g} s", "it goes on"
        if self._outage is not None:
            text += f", or nobody could tell: {self._outage}"
        else:
            hint += "; is a worker running that serves its next step?"
        return WorkflowTimeout(text, correlation_id=self.correlation_id, hint=hint)

    def _ended_as_planned(self, record: WorkflowRecord) -> bool:
        """Whether the output is that of the step that was last at dispatch: steps can be inserted, or end it sooner."""
        ran = [step.id for step in record.steps if step.status == "completed"]
        return self._last_step is None or (bool(ran) and ran[-1] == self._last_step)

    def _typed(self, output: Any) -> Any:
        try:
            return revive(output, self._output_type)
        except (ValidationError, PydanticUserError) as error:
            raise WorkflowError(
                f"workflow {self.correlation_id} completed, but its output is no {self._output_type!r}",
                correlation_id=self.correlation_id,
                hint="correct the return annotation; (await workflow.record()).output has it as JSON",
            ) from error

    def result_sync(self, timeout: float | None = None) -> Any:
        """:meth:`result` for plain code."""
        return run_sync(self.result(timeout), "await workflow.result()")

    async def signal(self, name: str, value: Any = None, *, by: str | None = None) -> None:
        """Give the workflow a signal that a step waits for, or will: one that nobody waits for yet is kept.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, or it has ended.
            NotSerializable: the value cannot be written as JSON.
        """
        await self._deliver(signal_key(name), jsonable(value, f"signal {name!r}"), by)

    async def _deliver(self, key: str, value: Any, by: str | None) -> None:
        status = await self.status()
        if status.is_terminal or self._timers is None:
            raise WorkflowError(
                f"workflow {self.correlation_id} is {status.value}: nothing waits in it any more",
                correlation_id=self.correlation_id,
            )
        await self._timers.deliver(self.correlation_id, key, value, by)

    async def events(self, after: int = 0) -> AsyncGenerator[EventRecord, None]:
        """What happens in the workflow, from the beginning or after an offset, until it ends.

        A server numbers events when they are written and shows them when they are committed, so one may turn up behind
        others that were seen before it: those come at the end.
        """
        ended = (await self.record()).status.is_terminal
        store = self._required_store()
        before, seen = after, set[int]()
        last: EventRecord | None = None
        while last is None:
            if not ended:
                await self._patiently(partial(store.await_event, self.correlation_id, after))
            batch = await self._patiently(partial(store.events, self.correlation_id, after))
            for event in batch:
                after = event.offset
                seen.add(after)
                if event.type in LAST:
                    last = event
                    break
                yield event
            if ended and not batch:
                break
            ended = ended or not batch  # woken by nothing but the end
        async for event in self._unseen(before, seen):
            yield event
        if last is not None:
            yield last

    async def _unseen(self, after: int, seen: set[int]) -> AsyncGenerator[EventRecord, None]:
        while batch := await self._required_store().events(self.correlation_id, after):
            after = batch[-1].offset
            for event in batch:
                if event.offset not in seen:
                    yield event

    async def _ended(self) -> WorkflowRecord:
        await self
        if (record := await self._patiently(self.record)).status.is_terminal:
            return record
        await self._patiently(partial(self._required_store().await_end, self.correlation_id))
        return await self._patiently(self.record)

    async def _patiently(self, read: Callable[[], Awaitable[T]]) -> T:
        """Read from the store. An outage is waited out: how long is the caller's to say."""
        pause = _SHORTEST_PAUSE
        while True:
            try:
                value = await read()
            except StoreError as error:
                if isinstance(error, StoreRefused | SchemaTooNew):
                    raise
                if self._outage is None:
                    log.warning("store unreachable, trying again", workflow=self.correlation_id, error=str(error))
                self._outage = error
            else:
                self._outage = None
                return value
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _required_store(self) -> Store:
        if self._store is None:
            raise StoreRequired(
                "results, status and events are read from a store, and this App has none",
                hint='give it one: App(..., store="sqlite:///paigeant.db") or PAIGEANT_STORE_URL',
            )
        return self._store


def run_sync(coroutine: Coroutine[Any, Any, T], instead: str) -> T:
    """Run a coroutine to its end from plain code.

    Raises:
        ConfigurationError: under a running event loop, where it would block every other task.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    coroutine.close()
    raise ConfigurationError(
        "this is the call for plain code, and an event loop is running here", hint=f"use {instead}"
    )

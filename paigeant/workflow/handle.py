"""The handle of a running workflow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError
from pydantic.errors import PydanticUserError

from paigeant.approval import KEY as APPROVAL
from paigeant.compensate import CANCELLED
from paigeant.context.waits import signal_key
from paigeant.dead_letters import DeadLetters
from paigeant.errors import (
    ConfigurationError,
    DeadLetterError,
    InvalidArguments,
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
from paigeant.events import LAST, DeadLetterRedriven
from paigeant.forward import OPERATOR
from paigeant.json_schema import misfit
from paigeant.records import EventRecord, Held, Status, WorkflowRecord
from paigeant.redrive import GONE_ON
from paigeant.runs import Runs
from paigeant.slip import Heading
from paigeant.store import Store
from paigeant.timers import Timers
from paigeant.times import When
from paigeant.values import jsonable, revive
from paigeant.workflow.forks import Forks
from paigeant.workflow.steering import Steering

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
        steering: Steering | None = None,
        letters: DeadLetters | None = None,
        forks: Forks | None = None,
        output_type: Any = Any,
        last_step: str | None = None,
        sent: asyncio.Task[None] | None = None,
    ) -> None:
        self.correlation_id = correlation_id
        self._store = store
        self._timers = timers
        self._steering = steering
        self._letters = letters
        self._forks = forks
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
            WorkflowFailed: with the error of the step that failed, and whether what had been done was taken back.
            WorkflowCancelled: somebody cancelled it.
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
        raise self._failure(ended)

    def _failure(self, ended: WorkflowRecord) -> WorkflowError:
        after = ""
        if ended.status in (Status.COMPENSATED, Status.COMPENSATION_INCOMPLETE):
            after = f"; {ended.status.value.replace('_', ' ')}"
        by_wish = ended.status is Status.CANCELLED or (ended.error is not None and ended.error.type == CANCELLED)
        if by_wish and ended.cancellation is not None:
            text = f"workflow {self.correlation_id} was {ended.cancellation}{after}"
            return WorkflowCancelled(text, correlation_id=self.correlation_id)
        text = f"workflow {self.correlation_id} failed: {ended.error}{after}"
        hint = f"see: paigeant workflow {self.correlation_id}"
        return WorkflowFailed(text, correlation_id=self.correlation_id, hint=hint)

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
            InvalidArguments: the step that waits for it says what it must be, and it is not that.
        """
        key, value = signal_key(name), jsonable(value, f"signal {name!r}")
        await self.status()
        for waiting in await self._required_store().held(self.correlation_id, key):
            if waiting.key == key:
                _check_fit(name, value, waiting)
                break
        await self._deliver(key, value, by)

    async def retry(self, *, by: str | None = None, fresh: bool = False) -> list[str]:
        """Try the steps again that wait for an operator because their attempts were used up; their ids.

        A workflow that has failed goes on from the step that failed, under a new epoch. Each step starts with all the
        attempts of its policy. An agent goes on where it was; with ``fresh`` it begins anew.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, or no step of it can be tried again.
            StoreRequired: the App has no store.
        """
        status = await self.status()
        if status is Status.FAILED:
            return [await self._retry_failed(by, fresh=fresh)]
        store = self._required_store()
        if not (waiting := await store.held(self.correlation_id, OPERATOR)):
            raise self._cannot_be_retried(status)
        tried = list[str]()
        for one in waiting:
            if fresh:
                await store.forget_journal(self.correlation_id, one.step_id)
            if await self._answer(one, None, by):
                tried.append(one.step_id)
        if not tried:  # somebody else was quicker
            raise self._cannot_be_retried(await self.status())
        return tried

    async def _retry_failed(self, by: str | None, *, fresh: bool) -> str:
        """Redrive what was kept of the step that failed; its id."""
        assert self._letters is not None
        for letter in await self._letters.list(workflow=self.correlation_id):
            if letter.heading == Heading.FORWARD:
                try:
                    return (await self._letters.redrive(letter.id, by=by, fresh=fresh)).step.id
                except DeadLetterError as error:
                    text = f"workflow {self.correlation_id} cannot be retried: {error}"
                    raise WorkflowError(text, correlation_id=self.correlation_id, hint=error.hint) from error
        text = f"workflow {self.correlation_id} cannot be retried: the message of its failed step "
        if (parent := (await self.record()).parent) is not None:
            text += "is not kept, as of each branch, or was discarded"
            hint = f"once the workflow that began it has failed: paigeant retry {parent}"
        else:
            text += "was discarded"
            hint = f"paigeant fork {self.correlation_id} --from STEP begins another workflow from a step of it"
        raise WorkflowError(text, correlation_id=self.correlation_id, hint=hint)

    def _cannot_be_retried(self, status: Status) -> WorkflowError:
        standing = status.value.replace("_", " ")
        return WorkflowError(
            f"workflow {self.correlation_id} is {standing}: no step of it waits for an operator",
            correlation_id=self.correlation_id,
            hint=GONE_ON.get(status, "see: paigeant workflow {id}").format(id=self.correlation_id),
        )

    async def fork(
        self,
        from_step: str,
        *,
        arguments: Mapping[str, Any] | None = None,
        prompt: str | None = None,
        variables: Mapping[str, Any] | None = None,
        id: str | None = None,  # noqa: A002 - as dispatch() has it
        deadline: When | None = None,
    ) -> Workflow:
        """Begin another workflow from a step of this one, by name or id, with what the steps before it gave.

        None of those runs again, and this workflow stays as it is. ``arguments`` take the place of some of the step's,
        ``variables`` of some that the workflow had then. The fork has a new id, or the one given: the same twice is
        one workflow. It has a deadline of its own, or none.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, it has not come to that step, or a step before
                it was taken back.
            InvalidArguments: it has no such step, or an argument does not fit.
            StoreRequired: the App has no store.
        """
        await self
        self._required_store("what the steps gave is read from a store")
        assert self._forks is not None
        edits: dict[str, Any] = {"arguments": arguments, "prompt": prompt, "variables": variables}
        fork: Workflow = await self._forks.fork(self.correlation_id, from_step, **edits, id=id, deadline=deadline)
        return fork

    async def decide(
        self, approved: bool, *, by: str | None = None, reason: str = "", arguments: dict[str, Any] | None = None
    ) -> None:
        """Answer the question that a step of the workflow asks; see :meth:`ActivityContext.await_approval`.

        ``arguments`` take the place of those that the step asks about, if it asks about some.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, or no step of it waits for an approval, or
                somebody else was quicker.
            NotSerializable: the arguments cannot be written as JSON.
        """
        said = {"approved": approved, "by": by, "reason": reason, "arguments": jsonable(arguments, "arguments")}
        [waiting, *_] = await self._waiting(APPROVAL, "an approval")
        if not await self._answer(waiting, said, by):
            raise WorkflowError(
                f"workflow {self.correlation_id}: step {waiting.activity!r} has got an answer meanwhile",
                correlation_id=self.correlation_id,
                hint=f"see: paigeant events {self.correlation_id}",
            )

    async def _waiting(self, key: str, what: str) -> Sequence[Held]:
        status = await self.status()
        if waiting := await self._required_store().held(self.correlation_id, key):
            return waiting
        raise WorkflowError(
            f"workflow {self.correlation_id} is {status.value}: no step of it waits for {what}",
            correlation_id=self.correlation_id,
            hint=f"see: paigeant workflow {self.correlation_id}",
        )

    async def cancel(self, *, compensate: bool = False, reason: str = "", by: str | None = None) -> None:
        """End the workflow, and those it dispatched. When this returns, no step of them starts any more.

        A running step is told (``ctx.cancelled``), and interrupted after the setting ``cancel_grace``. With
        ``compensate`` what completed is taken back, and the workflow ends after that. Cancelling again does nothing.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, or it has ended.
            StoreRequired: the App has no store.
        """
        await (await self._steered()).cancel(self.correlation_id, compensate, reason, by)

    async def pause(self, *, by: str | None = None) -> None:
        """Let no further step start, nor of what it dispatched; what runs ends. When this returns, none starts.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, or it is not running.
            StoreRequired: the App has no store.
        """
        await (await self._steered()).pause(self.correlation_id, by)

    async def resume(self, *, by: str | None = None) -> None:
        """Let a paused workflow go on, and those it dispatched.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, or it is not paused.
            StoreRequired: the App has no store.
        """
        await (await self._steered()).resume(self.correlation_id, by)

    async def _steered(self) -> Steering:
        await self
        self._required_store("a workflow is steered through a store")
        assert self._steering is not None
        return self._steering

    async def _answer(self, waiting: Held, value: Any, by: str | None) -> bool:
        assert self._timers is not None
        return await self._timers.answer(self.correlation_id, waiting.key, value, by)

    async def _deliver(self, key: str, value: Any, by: str | None) -> None:
        status = await self.status()
        if status.is_terminal or self._timers is None:
            raise WorkflowError(
                f"workflow {self.correlation_id} is {status.value}: nothing waits in it any more",
                correlation_id=self.correlation_id,
                hint=f"see: paigeant workflow {self.correlation_id}",
            )
        await self._timers.deliver(self.correlation_id, key, value, by)

    async def events(self, after: int = 0) -> AsyncGenerator[EventRecord, None]:
        """What happens in the workflow, from the beginning or after an offset, until it ends.

        What running steps show is among it. Events of a run that another one, after a crash or a retry, has taken the
        place of are marked ``abandoned``, as far as that was known when they were read.

        A server numbers events when they are written and shows them when they are committed, so one may turn up behind
        others that were seen before it: those come at the end. An end after which somebody had a step tried again is
        not the last event.
        """
        record = await self.record()
        ended, runs = record.status.is_terminal, Runs(record.steps)
        store = self._required_store()
        before, seen = after, set[int]()
        last: EventRecord | None = None
        while True:
            if not ended and last is None:
                await self._patiently(partial(store.await_event, self.correlation_id, after))
            batch = await self._patiently(partial(store.events, self.correlation_id, after))
            for event in batch:
                after = event.offset
                seen.add(after)
                if event.type in LAST:
                    last = event
                    continue
                if last is not None and event.type == DeadLetterRedriven.type:
                    yield last
                    ended, last = False, None
                yield runs.marked(event)
            if not batch and (ended or last is not None):
                break
            ended = ended or not batch  # woken by nothing but the end
        async for event in self._unseen(before, seen):
            yield runs.marked(event)
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

    def _required_store(self, what: str = "results, status and events are read from a store") -> Store:
        if self._store is None:
            raise StoreRequired(
                f"{what}, and this App has none",
                hint='give it one: App(..., store="sqlite:///paigeant.db") or PAIGEANT_STORE_URL',
            )
        return self._store


def _check_fit(name: str, value: Any, waiting: Held) -> None:
    """Refuse a signal that the step which waits for it could not use."""
    schema = waiting.detail.get("schema") if isinstance(waiting.detail, dict) else None
    if isinstance(schema, dict) and (why := misfit(value, schema)) is not None:
        raise InvalidArguments(
            f"signal {name!r} is not what step {waiting.activity!r} waits for: {why}",
            hint=f"see: paigeant waiting {waiting.correlation_id} --json",
        )


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

"""The handle of a workflow: result, status, events, signals and steering."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping, Sequence
from functools import partial
from typing import Any, Generic, Self, TypeVar, cast

import structlog

from paigeant.context.waiting import signal_key
from paigeant.dead_letters import DeadLetters
from paigeant.decisions.compensate import CANCELLED
from paigeant.decisions.forward import OPERATOR
from paigeant.decisions.redrive import GONE_ON
from paigeant.dispatch.timers import Timers
from paigeant.errors import (
    ConfigurationError,
    DeadLetterError,
    InvalidArguments,
    SchemaMismatch,
    StoreRefused,
    StoreRequired,
    WorkflowCancelled,
    WorkflowError,
    WorkflowFailed,
    WorkflowNotFound,
    WorkflowTimeout,
)
from paigeant.events import LAST, DeadLetterRedriven
from paigeant.records.workflow import EventRecord, Held, Status, WorkflowRecord
from paigeant.runtime.outage import Outage
from paigeant.runtime.patience import Patience
from paigeant.store import Store
from paigeant.wire.approval import KEY as APPROVAL
from paigeant.wire.approval import SHOWN
from paigeant.wire.json_schema import misfit
from paigeant.wire.names import check_name
from paigeant.wire.slip import Heading
from paigeant.wire.times import When
from paigeant.wire.values import jsonable
from paigeant.workflow.forks import Forks
from paigeant.workflow.results import OWN_TYPE, Result, refuse_unproved, typed
from paigeant.workflow.runs import Runs
from paigeant.workflow.steering import Steering
from paigeant.workflow.unserved import reminding, unserved_at_once

T = TypeVar("T")

log = structlog.stdlib.get_logger("paigeant.workflow")

_LONGEST_PAUSE = 2.0
"""Seconds between two attempts to read from an unreachable store."""


class Workflow(Generic[Result]):
    """The handle of a workflow, as ``app.dispatch`` returns it. Awaiting it waits until the broker has the message.

    Under a running event loop, a dispatch that nobody awaits causes a :class:`RuntimeWarning`, as a coroutine does.

    The handle reads everything but the id from the store. Type checkers read ``Workflow[int]`` as a workflow whose
    result is an int; a plain ``Workflow`` is a ``Workflow[Any]``.
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
        type_of: Callable[[str], Any] = lambda _: Any,
        result_type: Any = OWN_TYPE,
        sent: asyncio.Task[None] | None = None,
        dispatched_at: tuple[str, int] | None = None,
    ) -> None:
        self.correlation_id = correlation_id
        """The workflow's id."""
        self._store = store
        self._timers = timers
        self._steering = steering
        self._letters = letters
        self._forks = forks
        self._type_of = type_of
        self._result_type = result_type
        self._sent = sent
        self._unawaited = dispatched_at if sent is not None else None
        """File and line of the dispatch; None once the handle was awaited."""
        outage = Outage(log, f"read about workflow {correlation_id} in the store")
        self._patience = Patience(outage, hopeless=(StoreRefused, SchemaMismatch), longest=_LONGEST_PAUSE)

    def __repr__(self) -> str:
        return f"<workflow {self.correlation_id}>"

    def __str__(self) -> str:
        return self.correlation_id

    def __del__(self) -> None:
        place = self.__dict__.get("_unawaited")
        if place is not None:
            text = f"the dispatch of workflow {self.correlation_id} was never awaited: write await app.dispatch(...)"
            warnings.warn_explicit(text, RuntimeWarning, *place)

    def __await__(self) -> Generator[Any, None, Self]:
        self._unawaited = None
        if self._sent is not None:
            yield from asyncio.shield(self._sent).__await__()
        return self

    async def record(self) -> WorkflowRecord:
        """Return all that is known about the workflow.

        Raises:
            WorkflowNotFound: the store has no workflow with this id.
            StoreRequired: the App has no store.
        """
        await self
        return self._found(await self._required_store().workflow(self.correlation_id))

    async def _brief(self) -> WorkflowRecord:
        """The record without its steps."""
        await self
        return self._found(await self._required_store().brief(self.correlation_id))

    def _found(self, record: WorkflowRecord | None) -> WorkflowRecord:
        if record is None:
            raise WorkflowNotFound(f"no workflow {self.correlation_id!r}", correlation_id=self.correlation_id)
        return record

    async def status(self) -> Status:
        """Return the workflow's status."""
        return (await self._brief()).status

    async def result(self, timeout: float | None = None) -> Result:
        """Wait until the workflow has completed and return the last step's output, validated as the result type.

        Raises:
            WorkflowFailed: a step failed; the error names it and says whether completed steps were compensated.
            WorkflowCancelled: somebody cancelled the workflow.
            WorkflowTimeout: the workflow did not end within ``timeout`` seconds; it continues. An unreachable store
                alone raises no error: the call waits until the store is back, and the timeout error mentions it.
            WorkflowError: the store has another end than was signed, or the output does not fit the ``result_type``,
                or the last activity's return annotation.
        """
        try:
            async with asyncio.timeout(timeout):
                ended = await self._ended()
        except TimeoutError as error:
            if isinstance(error, WorkflowTimeout):
                raise
            raise await self._timed_out(timeout) from None
        await refuse_unproved(self._timers, ended)
        if ended.status is Status.COMPLETED:
            return await self._typed(ended.output)
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

    async def _timed_out(self, timeout: float | None) -> WorkflowTimeout:
        text, hint = f"workflow {self.correlation_id} did not end within {timeout:g} s", "the workflow continues"
        if (reason := self._patience.outage.reason) is not None:
            text += f", or nobody could tell: {reason}"
        elif unserved := await unserved_at_once(self._required_store(), self.correlation_id):
            text += f": {', '.join(unserved)}"
            hint += "; start a worker that serves the step: paigeant worker -A APP"
        else:
            hint += f"; see: paigeant workflow {self.correlation_id}"
        return WorkflowTimeout(text, correlation_id=self.correlation_id, hint=hint)

    async def _typed(self, output: Any) -> Result:
        """Validate the output as the ``result_type``, or as the last activity's return type if this App knows it.

        Steps can insert other steps or end the workflow early. If the workflow ended with another step than planned,
        no activity declares the type of its output, and the output is returned as JSON types.
        """
        if self._result_type is not OWN_TYPE:
            return cast(Result, typed(self.correlation_id, output, self._result_type, "result_type"))
        last = await self._patience.ask(partial(self._required_store().planned_end, self.correlation_id))
        known = Any if last is None else self._type_of(last)
        return cast(Result, typed(self.correlation_id, output, known, "return annotation"))

    def result_sync(self, timeout: float | None = None) -> Result:
        """:meth:`result` for plain code."""
        return run_sync(self.result(timeout), "await workflow.result()")

    async def signal(self, name: str, value: Any = None, *, by: str | None = None) -> None:
        """Send a signal to the workflow. The store records a signal that no step waits for yet.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, or it has ended.
            NotSerializable, MessageTooLarge: the value cannot be serialized as JSON, or is too large.
            InvalidArguments: the value does not match the schema of the step that waits for the signal, or the name
                contains a character that nobody sees.
        """
        check_name("the name of a signal", name)
        key, value = signal_key(name), jsonable(value, f"signal {name!r}")
        await self.status()
        for waiting in await self._required_store().held(self.correlation_id, key):
            if waiting.key == key:
                _check_fit(name, value, waiting)
                break
        await self._deliver(key, value, by)

    async def retry(self, *, by: str | None = None, fresh: bool = False) -> list[str]:
        """Retry the steps that wait for an operator because they used up their attempts; returns the steps' ids.

        A failed workflow resumes at the step that failed, under a new epoch. Each step starts with all the attempts of
        its policy. An agent resumes from its journal; with ``fresh`` it restarts from scratch.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, or none of its steps can be retried.
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
        if not tried:  # another operator was quicker
            raise self._cannot_be_retried(await self.status())
        return tried

    async def _retry_failed(self, by: str | None, *, fresh: bool) -> str:
        """Redrive the dead letter of the step that failed; returns the step's id."""
        assert self._letters is not None
        for letter in await self._letters.list(workflow=self.correlation_id):
            if letter.heading == Heading.FORWARD:
                try:
                    return (await self._letters.redrive(letter.id, by=by, fresh=fresh)).step.id
                except DeadLetterError as error:
                    text = f"workflow {self.correlation_id} cannot be retried: {error}"
                    raise WorkflowError(text, correlation_id=self.correlation_id, hint=error.hint) from None
        text = f"workflow {self.correlation_id} cannot be retried: the message of its failed step "
        if (parent := (await self._brief()).parent) is not None:
            text += "is not kept, as of each branch, or was discarded"
            hint = f"once the workflow that began it has failed: paigeant retry {parent}"
        else:
            text += "was discarded"
            hint = f"paigeant fork {self.correlation_id} --from STEP begins another workflow from a step of it"
        raise WorkflowError(text, correlation_id=self.correlation_id, hint=hint)

    def _cannot_be_retried(self, status: Status) -> WorkflowError:
        shown = status.value.replace("_", " ")
        return WorkflowError(
            f"workflow {self.correlation_id} is {shown}: no step of it waits for an operator",
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
    ) -> Workflow[Result]:
        """Start a new workflow at a step of this one, by name or id, with the outputs of the steps before it.

        Those steps do not run again, and this workflow does not change. ``arguments`` replace arguments of the step;
        ``variables`` replace variables that the workflow had at that step. The fork has a new id, or the ``id`` that
        you pass: two forks with the same id are one workflow. It has its own deadline, or none.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, it has not reached that step, or a step before
                it was compensated.
            InvalidArguments: the workflow has no such step, or an argument does not fit.
            StoreRequired: the App has no store.
        """
        await self
        self._required_store("a fork reads the outputs of the steps from a store")
        assert self._forks is not None
        edits: dict[str, Any] = {"arguments": arguments, "prompt": prompt, "variables": variables}
        fork: Workflow[Result] = await self._forks.fork(
            self.correlation_id, from_step, **edits, id=id, deadline=deadline
        )
        fork._result_type = self._result_type
        return fork

    async def decide(
        self,
        approved: bool,
        *,
        question: str | None = None,
        by: str | None = None,
        reason: str = "",
        arguments: dict[str, Any] | None = None,
    ) -> None:
        """Answer the question that a step of the workflow asks; see :meth:`ActivityContext.await_approval`.

        ``question`` is the id of the question that the person has seen, as ``paigeant approvals`` shows it; a prefix
        that matches one question is enough. You may leave it out while only one question is open. ``arguments``
        replace the arguments that the step asks about, if it asks about any.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, none of its steps waits for an approval, it now
                asks another question, or somebody else answered first.
            NotSerializable: the arguments cannot be serialized as JSON.
        """
        waiting = self._asked(await self._waiting(APPROVAL, "an approval"), question)
        name = by if self._timers is None else self._timers.named(by)
        said = {"approved": approved, "by": name, "reason": reason, "arguments": jsonable(arguments, "arguments")}
        if not await self._answer(waiting, said, by, waiting.question):
            raise WorkflowError(
                f"workflow {self.correlation_id}: step {waiting.activity!r} was answered meanwhile",
                correlation_id=self.correlation_id,
                hint=f"see: paigeant events {self.correlation_id}",
            )

    def _asked(self, waiting: Sequence[Held], question: str | None) -> Held:
        """Return the open question with this id.

        Raises:
            WorkflowError: no question matches, or more than one does.
        """
        meant = [one for one in waiting if question is None or (question and one.question.startswith(question))]
        if len(meant) == 1:
            return meant[0]
        why = "is answered, or was never asked" if not meant else "could be any of several"
        text = f"question {question!r} {why}" if question is not None else f"{len(waiting)} questions are open"
        now = "; ".join(f"{one.question[:SHOWN]} {one.detail.get('asks', '')!r}" for one in waiting)
        raise WorkflowError(
            f"workflow {self.correlation_id}: {text}; asked now: {now}",
            correlation_id=self.correlation_id,
            hint=f"name the question that you answer: paigeant approve {self.correlation_id} --question QUESTION",
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
        """Cancel the workflow and its child workflows. After this call returns, none of their steps starts.

        A running step sees ``ctx.cancelled``; the worker interrupts it after the setting ``cancel_grace``. With
        ``compensate`` completed steps are compensated before the workflow ends. Cancelling again does nothing.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, or it has ended.
            StoreRequired: the App has no store.
        """
        await (await self._steered()).cancel(self.correlation_id, compensate, reason, by)

    async def pause(self, *, by: str | None = None) -> None:
        """Pause the workflow and its child workflows. After this call returns, no step starts; running steps finish.

        Raises:
            WorkflowNotFound, WorkflowError: there is no such workflow, or it is not running.
            StoreRequired: the App has no store.
        """
        await (await self._steered()).pause(self.correlation_id, by)

    async def resume(self, *, by: str | None = None) -> None:
        """Resume a paused workflow and its child workflows.

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

    async def _answer(self, waiting: Held, value: Any, by: str | None, question: str | None = None) -> bool:
        assert self._timers is not None
        return await self._timers.answer(waiting, value, by, question)

    async def _deliver(self, key: str, value: Any, by: str | None) -> None:
        status = await self.status()
        if status.is_terminal or self._timers is None:
            raise WorkflowError(
                f"workflow {self.correlation_id} is {status.value}: none of its steps waits any more",
                correlation_id=self.correlation_id,
                hint=f"see: paigeant workflow {self.correlation_id}",
            )
        await self._timers.deliver(self.correlation_id, key, value, by)

    async def events(self, after: int = 0) -> AsyncGenerator[EventRecord, None]:
        """Yield the workflow's events, from the beginning or after an offset, until the workflow ends.

        The events include the progress that running steps report. When another run has replaced a run, after a crash
        or a retry, the events of the replaced run are marked ``abandoned``, if that was known when they were read.

        A database server numbers events when they are inserted and shows them when they are committed. So an event can
        become visible after events with higher numbers; this method yields such late events at the end. A final event
        is not the last one if somebody retried a step after it.
        """
        record = await self.record()
        ended, runs = record.status.is_terminal, Runs(record.steps)
        store = self._required_store()
        before, seen = after, set[int]()
        last: EventRecord | None = None
        while True:
            if not ended and last is None:
                await self._patience.ask(partial(store.await_event, self.correlation_id, after))
            batch = await self._patience.ask(partial(store.events, self.correlation_id, after))
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
            ended = ended or not batch  # without new events, only the end of the workflow wakes this loop
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
        if (record := await self._patience.ask(self._brief)).status.is_terminal:
            return record
        store = self._required_store()
        async with reminding(store, self.correlation_id, partial(log.warning, workflow=self.correlation_id)):
            await self._patience.ask(partial(store.await_end, self.correlation_id))
        return await self._patience.ask(self._brief)

    def _required_store(self, what: str = "results, status and events are read from a store") -> Store:
        if self._store is None:
            raise StoreRequired(
                f"{what}, and this App has none",
                hint='give it one: App(..., store="sqlite:///paigeant.db") or PAIGEANT_STORE_URL',
            )
        return self._store


def _check_fit(name: str, value: Any, waiting: Held) -> None:
    """Raise InvalidArguments if the signal does not match the schema of the step that waits for it."""
    schema = waiting.detail.get("schema") if isinstance(waiting.detail, dict) else None
    if isinstance(schema, dict) and (why := misfit(value, schema)) is not None:
        raise InvalidArguments(
            f"signal {name!r} is not what step {waiting.activity!r} waits for: {why}",
            hint=f"see: paigeant waiting {waiting.correlation_id} --json",
        )


def run_sync(coroutine: Coroutine[Any, Any, T], instead: str) -> T:
    """Run a coroutine to its end from plain code.

    Raises:
        ConfigurationError: an event loop is running, where the call would block every other task.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    coroutine.close()
    raise ConfigurationError(
        "this is the call for plain code, and an event loop is running here", hint=f"use {instead}"
    )

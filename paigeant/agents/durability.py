"""Durability as a capability of a pydantic-ai run: model requests and tool calls go through the step's journal.

It wraps the model and the toolset innermost, with the hooks that pydantic-ai has for this. The other hooks of the agent
therefore see the same run in a replay as in the original run.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import asdict, replace
from typing import Any, Literal

from opentelemetry.trace import get_current_span
from pydantic_ai import durable_exec
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.durable_exec import JSON_CODEC
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, RunContext
from pydantic_ai.toolsets import AbstractToolset
from pydantic_ai.usage import RunUsage

from paigeant.agents import queue
from paigeant.agents.calls import ToolCall, running, within
from paigeant.agents.deferred import answers
from paigeant.agents.effects import forked
from paigeant.agents.events import waiting_for_signals
from paigeant.agents.journal import Journal, digest
from paigeant.agents.operations import dispatchers
from paigeant.agents.requests import JournaledModel, is_journaled, older_request_digest, request_digest
from paigeant.agents.rulings import Ruling, checked, ruling
from paigeant.agents.spending import usage_of, used_by, without
from paigeant.agents.tool_outcome import ToolOutcome, ended, is_refusal, unwritable
from paigeant.agents.toolset import Call, JournaledToolset
from paigeant.context import ActivityContext
from paigeant.decisions.interrupts import Interrupt
from paigeant.errors import NotSerializable, StoreRefused
from paigeant.records.journal import Unit
from paigeant.wire.usage import Usage

Level = Literal["step", "model", "full"]
"""See :data:`paigeant.agents.activity.LEVELS`."""

# The oldest supported release of pydantic-ai lacks these; with it, a replay emits its telemetry once more.
_replay_scope: Callable[[], AbstractContextManager[None]] = getattr(durable_exec, "replay_scope", nullcontext)
_record_durable_unit: Callable[..., None] = getattr(durable_exec, "record_durable_unit", lambda executed: None)


def replays() -> AbstractContextManager[None]:
    """Surround a run, so that replayed units appear in no trace and in no metric."""
    return _replay_scope()


class Durability(AbstractCapability[Any]):
    """Sends the model requests and tool calls of one run through a journal.

    When an agent runs inside a tool call, ``within`` is that call, and the keys of the agent's units begin with
    ``place``.
    """

    def __init__(self, journal: Journal, level: Level, within: ToolCall | None = None, place: str = "") -> None:
        self.journal = journal
        self.level = level
        self.within = within
        self.context: ActivityContext = journal.context if within is None else within.context
        self._place = place
        self._prompt: Any = None
        self._responses = 0
        self._ended: dict[str, str] = {}
        self._calls: Counter[str] = Counter()
        self._equal: Counter[str] = Counter()
        self._running = 0
        self._is_idle = asyncio.Event()
        self._end: Interrupt | None = None

    def get_ordering(self) -> CapabilityOrdering:
        return CapabilityOrdering(position="innermost")

    @classmethod
    def get_serialization_name(cls) -> str | None:
        return None

    def get_default_run_id(self) -> str | None:
        turn = self.journal.turn
        return None if self._place else f"{turn.correlation_id}:{turn.step_id}:{turn.epoch}"

    async def before_run(self, ctx: RunContext[Any]) -> None:
        self._prompt = ctx.prompt
        if self.level != "step":
            if ctx._durable_operations is None:
                ctx._durable_operations = {}
            ctx._durable_operations.update(dispatchers(ctx, self._operated))  # all contexts of the run share it

    async def wrap_run(self, ctx: RunContext[Any], *, handler: Callable[[], Any]) -> Any:
        """Note on the run's span how many units were replayed: their own spans were emitted in an earlier run."""
        self._prompt = ctx.prompt
        try:
            with waiting_for_signals(self):
                return await handler()
        except UnexpectedModelBehavior:  # the recorded responses would lead to the same error again
            await self._step_back()
            raise
        finally:
            if self.journal.replayed:
                get_current_span().set_attribute("paigeant.units.replayed", self.journal.replayed)

    # --- places ----------------------------------------------------------------------------------------------

    def _response(self, number: int) -> str:
        """The key of a response of this run."""
        return self.journal.place_of(f"{self._place}model:{number}")

    def _after(self, kind: str, number: int | None = None) -> str:
        """The prefix of the keys of units after a response, by default the last one.

        When the response is forgotten, its successor has another key, and so have the units after it.
        """
        last = self._responses if number is None else number
        again = self._response(last).removeprefix(f"{self._place}model:{last}")
        return f"{self._place}{kind}:{last}{again}:"

    def _nth(self, key: str) -> str:
        """A key of its own for each of several equal units in one place, by their order."""
        self._equal[key] += 1
        return f"{key}:{self._equal[key]}"

    async def _step_back(self) -> None:
        """Forget the responses after the last finished tool call, and the calls of it that asked for another call."""
        last = max((one for one in range(1, self._responses + 1) if self._has_finished(one)), default=0)
        refused = [key for key, unit in self._units(last) if is_refusal(unit)]
        later = [self._response(one) for one in range(last + 1, self._responses + 1)]
        for key in [*refused, *later]:
            if key in self.journal.recorded:
                await self.journal.forget(key)

    def _units(self, response: int) -> list[tuple[str, Unit]]:
        """The recorded tool calls of a response."""
        begin = self._after("tool", response)
        found = [(key, unit) for key, unit in self.journal.recorded.items() if key.startswith(begin)]
        return [(key, unit) for key, unit in found if unit.value is not None and not self.journal.has_forgotten(key)]

    def _has_finished(self, response: int) -> bool:
        return any(
            unit.name not in ("model", "forgotten") and not is_refusal(unit) for _, unit in self._units(response)
        )

    # --- model requests --------------------------------------------------------------------------------------

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        return self._through_journal(request_context)

    async def prepare_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Wrap the model once more, because a hook may have chosen another one for this attempt."""
        return self._through_journal(request_context)

    def _through_journal(self, request_context: ModelRequestContext) -> ModelRequestContext:
        if not is_journaled(request_context.model, self):
            request_context.model = JournaledModel(request_context.model, self)
        return request_context

    def recall(self, messages: list[ModelMessage]) -> ModelResponse | None:
        """Return the response to the next model request if the journal has it."""
        if self.level == "step":
            return None
        self._refuse_unknown_calls()
        key = self._response(self._responses + 1)
        older = older_request_digest(messages, with_results=self.level == "full")
        unit = self.journal.find(key, "model", self._asked(), older)
        if unit is None:
            return None
        self._responses += 1
        self._counts(unit.usage)
        _record_durable_unit(executed=False)
        if "unwritable" in unit.value:
            raise NotSerializable(unit.value["unwritable"])
        response: ModelResponse = JSON_CODEC.load(ModelResponse, unit.value)
        return response

    async def keep(self, response: ModelResponse, *, is_poll: bool) -> None:
        """Record the response to this request, before the run acts on it."""
        key, asked = self._response(self._responses + 1), self._asked()
        self._responses += 1
        usage = used_by(response, is_poll=is_poll)
        unit = Unit(key=key, name="model", digest=asked, value=None, usage=usage)
        try:
            value = JSON_CODEC.dump(ModelResponse, response)
            await self._add(replace(unit, value=value), self.level != "step")
        except (ValueError, TypeError, RecursionError, StoreRefused) as error:
            why = f"the response of the model cannot be written down: {error}"
            await self._add(replace(unit, value={"unwritable": why}), self.level != "step")
            raise NotSerializable(why) from error

    def _asked(self) -> str:
        return request_digest(self._prompt, sorted(self._ended.items()) if self.level == "full" else [])

    def _refuse_unknown_calls(self) -> None:
        """Raise if the journal has a finished call of the last response that this run has not made.

        Other code must have made it.
        """
        begin = self._after("tool")
        for key, unit in self._units(self._responses):
            if key not in self._ended and ">" not in key.removeprefix(begin):
                raise self.journal.mismatch(f"the tool call {key!r} of {unit.name!r} is finished, and not made now")

    # --- tool calls ------------------------------------------------------------------------------------------

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        return JournaledToolset(toolset, self)

    async def call(self, name: str, arguments: dict[str, Any], ctx: RunContext[Any], call: Call) -> Any:
        """Return or raise what the tool returned or raised, from the journal if the call is recorded."""
        unit = Unit(key=self._key_of(ctx), name=name, digest=digest((name, arguments)), value=None)
        known = self.journal.find(unit.key, unit.name, unit.digest) if self.level == "full" else None
        if known is None:
            outcome, result = await self._alone(unit, ctx, call)
        else:
            _record_durable_unit(executed=False)
            outcome = ToolOutcome(**known.value)
            result = outcome.read(self.journal)
            self._replay(outcome, ctx)
        self._ended[unit.key] = f"{name} {'retry' if outcome.kind == 'retry' else 'done'}"
        self.context.state.merge(outcome.effects)
        return outcome.given(result)

    def _replay(self, outcome: ToolOutcome, ctx: RunContext[Any]) -> None:
        """Add the usage and the messages of a recorded call to this run."""
        usage = JSON_CODEC.load(RunUsage, outcome.usage)
        ctx.usage.incr(usage)
        queue.put(ctx, outcome.queued)
        self._counts(usage_of(usage).plus(Usage(tool_calls=1)))

    def _key_of(self, ctx: RunContext[Any]) -> str:
        """The key of a tool call. Some models use one id for two calls, so later ones have a number."""
        key = f"{self._after('tool')}{ctx.tool_call_id}"
        self._calls[key] += 1
        turn = self._calls[key]
        return self.journal.place_of(key if turn == 1 else f"{key}:{turn}")

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[Any], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        """Answer the calls that nothing in the agent itself answers."""
        place = self._after("asked").removesuffix(":")
        return await answers(self.journal, self.context, place, requests, is_kept=self.level != "step")

    async def _alone(self, unit: Unit, ctx: RunContext[Any], call: Call) -> tuple[ToolOutcome, Any]:
        """Call the tool. If the call ends the run, first let the calls that run beside it finish.

        If several calls wait, the step waits for the first one. The next run repeats the others.
        """
        self._running += 1
        try:
            with forked(self.context, unit.key) as own:
                return await self._called(unit, ctx, call, own)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised below, when no call runs beside it
            raised = error
            if self._end is None and isinstance(error, Interrupt):
                self._end = error
                self.context.state.merge_children(own.state)
        finally:
            self._running -= 1
            self._is_idle.set()
        while self._running:
            self._is_idle.clear()
            await self._is_idle.wait()
        raise self._end or raised

    async def _called(
        self, unit: Unit, ctx: RunContext[Any], call: Call, own: ActivityContext
    ) -> tuple[ToolOutcome, Any]:
        usage = copy(ctx.usage)
        before = copy(usage)
        here = ToolCall(unit.key, own, self._inner, queue=ctx.pending_messages)
        pending = ctx.pending_messages if queue.noting(ctx) else None
        with self.journal.doing(tool_calls=1), within(here):
            outcome, result = await ended(call(replace(ctx, usage=usage, pending_messages=pending)))
        spent = usage - before
        ctx.usage.incr(spent)
        if spent.has_values():
            outcome.usage = JSON_CODEC.dump(RunUsage, spent)
        outcome.queued = queue.serialized(here.queued)
        outcome.collect(own.state)
        used = without(usage_of(spent), here.recorded).plus(Usage(tool_calls=1))
        if here.recorded and self.within is not None:
            self.within.count(here.recorded)
        outcome = await self._recorded(replace(unit, usage=used), outcome, result)
        return outcome, result

    async def _recorded(self, unit: Unit, outcome: ToolOutcome, result: Any) -> ToolOutcome:
        """Record the end of the call. If its result cannot be written, record that: the call is not repeated for it."""
        if self.level != "full":
            await self._add(unit, is_kept=False)
            return outcome
        try:
            outcome = outcome.with_result(unit.name, result)
            await self._add(replace(unit, value=asdict(outcome)), is_kept=True)
        except (NotSerializable, StoreRefused) as error:
            outcome = unwritable(unit.name, error, outcome.usage)
            await self._add(replace(unit, value=asdict(outcome)), is_kept=True)
        return outcome

    def _inner(self, call: ToolCall, place: str) -> Durability:
        return Durability(self.journal, self.level, call, place)

    async def _add(self, unit: Unit, is_kept: bool) -> None:
        await self.journal.add(unit, is_kept)
        self._counts(unit.usage)
        _record_durable_unit(executed=True)

    def _counts(self, used: Usage) -> None:
        """Tell the surrounding tool call which part of its usage is recorded separately."""
        if self.within is not None:
            self.within.count(used)

    # --- validators of tools ---------------------------------------------------------------------------------

    async def validated(self, name: str, arguments: dict[str, Any], ctx: RunContext[Any], check: Call) -> None:
        """Apply the validator's ruling on these arguments. If the call is finished, no ruling is needed."""
        if self.level != "full":
            await checked(check, ctx)
            return
        asked = digest((name, arguments))
        place = f"{self._after('tool')}{ctx.tool_call_id}"
        if any(key.startswith(place) and unit.digest == asked for key, unit in self._units(self._responses)):
            return
        key = f"{self._after('valid')}{ctx.tool_call_id}:{asked}"
        known = self.journal.find(key, name, asked)
        if known is None:
            ruled = await ruling(check, ctx)
            await self._add(Unit(key=key, name=name, digest=asked, value=asdict(ruled)), is_kept=True)
        else:
            ruled = Ruling(**known.value)
        ruled.apply()

    def finished_tools(self) -> set[str]:
        """The names of the tools that the next response calls and whose calls are finished."""
        return {unit.name for _, unit in self._units(self._responses + 1)} if self.level == "full" else set()

    # --- operations and events -------------------------------------------------------------------------------

    async def _operated(self, name: str, asked: str, do: Callable[[], Any]) -> Any:
        """Run an operation of a capability once for the step; see :mod:`paigeant.agents.operations`."""
        return await self._once(self._nth(f"{self._spot('op')}{name}:{asked}"), name, asked, do)

    async def asked(self, name: str, ask: Callable[[str], Any]) -> tuple[str, Any]:
        """See :mod:`paigeant.agents.events`."""
        key = self._nth(f"{self._spot('event')}{name}")
        turn = self.journal.turn
        token = f"event-{digest((turn.correlation_id, turn.step_id, turn.epoch, key))}"
        return token, await self._once(key, name, digest([name]), lambda: ask(token))

    def _spot(self, kind: str) -> str:
        """The prefix of the keys of units at the current place of the run: after a response, or in a tool call."""
        call = running()
        return self._after(kind) if call is None or call is self.within else f"{call.key}>{kind}:"

    async def _once(self, key: str, name: str, asked: str, do: Callable[[], Any]) -> Any:
        known = self.journal.find(key, name, asked) if self.level != "step" else None
        if known is not None:
            _record_durable_unit(executed=False)
            return known.value
        with self.journal.doing():
            value = await do()
        await self._add(Unit(key=key, name=name, digest=asked, value=value), self.level != "step")
        return value

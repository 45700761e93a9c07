"""Durability as a capability of a pydantic-ai run: model requests and tool calls go through the journal of the step.

It wraps the model and the toolset innermost, by pydantic-ai's hooks for that, so that whatever else the agent does in
its hooks happens in a run that replays as it did in the run before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from opentelemetry.trace import get_current_span
from pydantic_ai import durable_exec
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.durable_exec import JSON_CODEC
from pydantic_ai.exceptions import ModelRetry, ToolFailed, UnexpectedModelBehavior
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolReturn, ToolReturnContent, UserPromptPart
from pydantic_ai.models import (
    CompletedStreamedResponse,
    Model,
    ModelRequestContext,
    ModelRequestParameters,
    StreamedResponse,
)
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, RunContext
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool, WrapperToolset
from pydantic_ai.usage import RunUsage
from pydantic_core import PydanticSerializationError

from paigeant.agents.deferred import answers
from paigeant.agents.effects import apart, bring
from paigeant.agents.journal import Journal, digest
from paigeant.errors import NotSerializable
from paigeant.journal import Unit
from paigeant.usage import Usage

Level = Literal["step", "model", "full"]
"""See :data:`paigeant.agents.activity.LEVELS`."""

# Newer than the oldest release that is supported; without them the telemetry of a replay is emitted again.
_replay_scope: Callable[[], AbstractContextManager[None]] = getattr(durable_exec, "replay_scope", nullcontext)
_record_durable_unit: Callable[..., None] = getattr(durable_exec, "record_durable_unit", lambda executed: None)


def replays() -> AbstractContextManager[None]:
    """Around a run: what is only replayed is told to no trace and counted in no metric."""
    return _replay_scope()


class Durability(AbstractCapability[Any]):
    """Sends a run's model requests and tool calls through a journal. For one run only."""

    def __init__(self, journal: Journal, level: Level) -> None:
        self.journal = journal
        self.level = level
        self._responses = 0
        self._calls: Counter[str] = Counter()

    def get_ordering(self) -> CapabilityOrdering:
        return CapabilityOrdering(position="innermost")

    @classmethod
    def get_serialization_name(cls) -> str | None:
        return None

    def get_default_run_id(self) -> str | None:
        turn = self.journal.turn
        return f"{turn.correlation_id}:{turn.step_id}:{turn.epoch}"

    async def wrap_run(self, ctx: RunContext[Any], *, handler: Callable[[], Any]) -> Any:
        """Marks the span of the run: those of units that are replayed are not there, they were told before."""
        try:
            return await handler()
        finally:
            if self.journal.replayed:
                get_current_span().set_attribute("paigeant.units.replayed", self.journal.replayed)

    # --- model requests --------------------------------------------------------------------------------------

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        return self._through_journal(request_context)

    async def prepare_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """A hook may have chosen another model for this attempt."""
        return self._through_journal(request_context)

    def _through_journal(self, request_context: ModelRequestContext) -> ModelRequestContext:
        if not _is_journaled(request_context.model):
            request_context.model = _JournaledModel(request_context.model, self)
        return request_context

    def recall(self, messages: list[ModelMessage]) -> ModelResponse | None:
        """The response to the next model request, if it is in the journal."""
        if self.level == "step":
            return None
        unit = self.journal.find(f"model:{self._responses + 1}", "model", self._asked(messages))
        if unit is None:
            return None
        self._responses += 1
        _record_durable_unit(executed=False)
        response: ModelResponse = JSON_CODEC.load(ModelResponse, unit.value)
        return response

    async def keep(self, messages: list[ModelMessage], response: ModelResponse) -> None:
        """Write down the response to this request, before anybody acts on it."""
        self._responses += 1
        unit = Unit(
            key=f"model:{self._responses}",
            name="model",
            digest=self._asked(messages),
            value=JSON_CODEC.dump(ModelResponse, response),
            usage=_used(response),
        )
        await self._add(unit, self.level != "step")

    def _asked(self, messages: list[ModelMessage]) -> str:
        return digest(_shape(messages, with_results=self.level == "full"))

    # --- tool calls ------------------------------------------------------------------------------------------

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        return _JournaledToolset(toolset, self)

    async def call(self, name: str, arguments: dict[str, Any], ctx: RunContext[Any], call: Call) -> Any:
        """What the tool returns or raises, from the journal if it is there."""
        unit = Unit(key=self._key_of(ctx), name=name, digest=digest((name, arguments)), value=None)
        known = self.journal.find(unit.key, unit.name, unit.digest) if self.level == "full" else None
        if known is None:
            outcome = await self._called(unit, ctx, call)
        else:
            _record_durable_unit(executed=False)
            outcome = _Outcome(**known.value)
            ctx.usage.incr(JSON_CODEC.load(RunUsage, outcome.usage))
        bring(self.journal.context, outcome.effects)
        return outcome.given(is_written=self.level == "full")

    def _key_of(self, ctx: RunContext[Any]) -> str:
        """Some models call tools twice under one id."""
        key = f"tool:{self._responses}:{ctx.tool_call_id}"
        self._calls[key] += 1
        turn = self._calls[key]
        return key if turn == 1 else f"{key}:{turn}"

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[Any], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        """What nothing in the agent itself answers."""
        return await answers(self.journal, f"asked:{self._responses}", requests, is_kept=self.level != "step")

    async def _called(self, unit: Unit, ctx: RunContext[Any], call: Call) -> _Outcome:
        usage = copy(ctx.usage)
        before = copy(usage)
        with self.journal.doing(tool_calls=1), apart(self.journal.context, unit.key) as own:
            outcome = await _ended(call(replace(ctx, usage=usage)))
        spent = usage - before
        ctx.usage.incr(spent)
        if self.level == "full":
            outcome = outcome.written(unit.name)
        if spent.has_values():
            outcome.usage = JSON_CODEC.dump(RunUsage, spent)
        if outcome.kind in _FINISHED:
            outcome.effects = own.effects()
        value = asdict(outcome) if self.level == "full" else None
        await self._add(replace(unit, value=value, usage=_of_tool(spent)), self.level == "full")
        return outcome

    async def _add(self, unit: Unit, is_kept: bool) -> None:
        await self.journal.add(unit, is_kept)
        _record_durable_unit(executed=True)


# --- the model -------------------------------------------------------------------------------------------------------


class _JournaledModel(WrapperModel):
    """A model whose responses are written down, and read again where they were before."""

    def __init__(self, wrapped: Model, durability: Durability) -> None:
        super().__init__(wrapped)
        self._durability = durability

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        known = self._durability.recall(messages)
        if known is not None:
            return known
        with self._durability.journal.doing(requests=1):
            response = await super().request(messages, model_settings, model_request_parameters)
        await self._durability.keep(messages, response)
        return response

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncIterator[StreamedResponse]:
        known = self._durability.recall(messages)
        if known is not None:
            yield CompletedStreamedResponse(
                known, model_request_parameters=model_request_parameters, replay_events=True
            )
            return
        arguments = (messages, model_settings, model_request_parameters, run_context)
        async with super().request_stream(*arguments) as stream:
            with self._durability.journal.doing(requests=1):
                yield stream
                async for _ in stream:  # what nobody asked for: the response is to be whole
                    pass
            await self._durability.keep(messages, stream.get())


def _is_journaled(model: Model) -> bool:
    while isinstance(model, WrapperModel):
        if isinstance(model, _JournaledModel):
            return True
        model = model.wrapped
    return False


def _shape(messages: list[ModelMessage], *, with_results: bool) -> list[Any]:
    """What of a request must be the same when it is made again: not the times, the ids of the run, the instructions."""
    shape: list[Any] = []
    for message in messages:
        for part in message.parts:
            if isinstance(part, UserPromptPart):
                shape.append((part.part_kind, part.content if isinstance(part.content, str) else len(part.content)))
            elif message.kind == "response" or with_results:
                shape.append((part.part_kind, getattr(part, "tool_name", None), getattr(part, "tool_call_id", None)))
    return shape


def _used(response: ModelResponse) -> Usage:
    usage = response.usage
    try:
        cost, unpriced = float(response.cost().total_price), 0
    except (LookupError, ValueError, AssertionError):
        cost, unpriced = 0.0, 1
    return Usage(
        requests=1, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cost=cost, unpriced=unpriced
    )


def is_dead_end(error: BaseException) -> bool:
    """Whether what the model said led nowhere: to hear it again would lead there again."""
    return isinstance(error, UnexpectedModelBehavior)


# --- tools -----------------------------------------------------------------------------------------------------------

Call = Callable[[RunContext[Any]], Any]
"""Calls a tool with this context of its run."""

_FINISHED: dict[str, Any] = {"content": ToolReturnContent, "return": ToolReturn}
"""The types of what tools return."""


@dataclass
class _JournaledToolset(WrapperToolset[Any]):
    """Tools whose results are written down, and read again where they were before."""

    durability: Durability

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        async def call(own: RunContext[Any]) -> Any:
            return await self.wrapped.call_tool(name, tool_args, own, tool)

        return await self.durability.call(name, tool_args, ctx, call)


@dataclass
class _Outcome:
    """What a tool call ended with: what it gave, what it changed in the workflow, and what agents used that it ran."""

    kind: str
    value: Any
    effects: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)

    def written(self, name: str) -> _Outcome:
        """The same with JSON types."""
        if self.kind not in _FINISHED:
            return self
        try:
            return replace(self, value=JSON_CODEC.dump(_FINISHED[self.kind], self.value))
        except (PydanticSerializationError, TypeError) as error:
            raise NotSerializable(
                f"the result of tool {name!r} cannot be written as JSON: {error}",
                hint='return what pydantic can write, or app.activity(agent, durable="model")',
            ) from error

    def given(self, *, is_written: bool) -> Any:
        """What the tool returned, or raised."""
        match self.kind:
            case "retry":
                raise ModelRetry(self.value)
            case "failed":
                raise ToolFailed(self.value)
            case _ if is_written:
                return JSON_CODEC.load(_FINISHED[self.kind], self.value)
            case _:
                return self.value


async def _ended(call: Any) -> _Outcome:
    """How a tool call ended. An error of the tool is no end: it is raised."""
    try:
        result = await call
    except ModelRetry as error:
        return _Outcome("retry", error.message)
    except ToolFailed as error:
        return _Outcome("failed", error.message)
    return _Outcome("return" if isinstance(result, ToolReturn) else "content", result)


def _of_tool(spent: RunUsage) -> Usage:
    """What a tool call used: itself, and what agents used that it ran."""
    return Usage(
        requests=spent.requests,
        tool_calls=spent.tool_calls + 1,
        input_tokens=spent.input_tokens,
        output_tokens=spent.output_tokens,
        unpriced=spent.requests,
    )

"""Model requests of a durable run: each response is recorded, and a replay returns it without a request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from pydantic_ai.messages import ModelMessage, ModelResponse, UserPromptPart
from pydantic_ai.models import CompletedStreamedResponse, Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import RunContext

from paigeant.agents.journal import Journal, digest

_RULE = "2:"
"""Prefix of the digests of model requests under the current rule."""


class Responses(Protocol):
    """Reads and records the responses of a run."""

    journal: Journal

    def recall(self, messages: list[ModelMessage]) -> ModelResponse | None:
        """Return the response to the next request if it is recorded."""
        ...

    async def keep(self, response: ModelResponse, *, is_poll: bool) -> None:
        """Record the response to the next request."""
        ...


class JournaledModel(WrapperModel):
    """A model whose responses are recorded, and read from the journal in a replay."""

    def __init__(self, wrapped: Model, responses: Responses) -> None:
        super().__init__(wrapped)
        self.responses = responses

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        known = self.responses.recall(messages)
        if known is not None:
            return known
        is_poll = self._is_poll(messages)
        with self.responses.journal.doing(requests=0 if is_poll else 1):
            response = await super().request(messages, model_settings, model_request_parameters)
        await self.responses.keep(response, is_poll=is_poll)
        return response

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncIterator[StreamedResponse]:
        known = self.responses.recall(messages)
        if known is not None:
            yield CompletedStreamedResponse(
                known, model_request_parameters=model_request_parameters, replay_events=True
            )
            return
        arguments = (messages, model_settings, model_request_parameters, run_context)
        is_poll = self._is_poll(messages)
        with self.responses.journal.doing(requests=0 if is_poll else 1):
            async with super().request_stream(*arguments) as stream:
                yield stream
                async for _ in stream:  # the journal needs the complete response, also if the reader stopped early
                    pass
                await self.responses.keep(stream.get(), is_poll=is_poll)

    def _is_poll(self, messages: list[ModelMessage]) -> bool:
        """Whether this request only asks for the result of an earlier one, which the provider still processes."""
        last = messages[-1] if messages else None
        if not isinstance(last, ModelResponse) or last.state != "suspended":
            return False
        return self.wrapped.continuation_delay(last) is not None


def is_journaled(model: Model, responses: Responses) -> bool:
    """Whether the responses of this model are recorded here already."""
    while isinstance(model, WrapperModel):
        if isinstance(model, JournaledModel) and model.responses is responses:
            return True
        model = model.wrapped
    return False


def request_digest(prompt: Any, calls: list[tuple[str, str]]) -> str:
    """The digest of a model request: the prompt of the run, and the finished tool calls before the request.

    The messages are no part of it. Code that shortens or changes them on their way to the model may do so differently
    in a replay.
    """
    shown = prompt if isinstance(prompt, str) or prompt is None else len(prompt)
    return _RULE + digest([shown, calls])


def older_request_digest(messages: list[ModelMessage], *, with_results: bool) -> str:
    """The digest under the rule of earlier releases, so that journals which they began can continue."""
    return digest(_shape(messages, with_results=with_results))


def _shape(messages: list[ModelMessage], *, with_results: bool) -> list[Any]:
    shape: list[Any] = []
    for message in messages:
        for part in message.parts:
            if isinstance(part, UserPromptPart):
                shape.append((part.part_kind, part.content if isinstance(part.content, str) else len(part.content)))
            elif message.kind == "response" or with_results:
                shape.append((part.part_kind, getattr(part, "tool_name", None), getattr(part, "tool_call_id", None)))
    return shape

"""Models that answer as a test plans, count what is done, and fail where the test wants."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturn, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from paigeant import ActivityContext


@dataclass
class Script:
    """A model and tools that count their calls, and fail once at the call named ``fails_at``.

    The model asks for rain and sun at once, then for snow, then it answers: three requests and three tool calls.
    """

    fails_at: str = ""
    done: Counter[str] = field(default_factory=Counter)
    keys: list[str] = field(default_factory=list)

    def do(self, what: str) -> None:
        self.done[what] += 1
        if what == self.fails_at and self.done[what] == 1:
            raise ConnectionError(what)

    def respond(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        turn = len(messages) // 2 + 1
        self.do(f"request {turn}")
        usage = RequestUsage(input_tokens=100 * turn, output_tokens=10)
        match turn:
            case 1:
                calls = [ToolCallPart("rain", {"town": "Rome"}, "a"), ToolCallPart("sun", {"town": "Oslo"}, "b")]
                return ModelResponse(calls, usage=usage)
            case 2:
                return ModelResponse([ToolCallPart("snow", {}, "a")], usage=usage)  # the id comes twice
            case _:
                heard = [part.content for one in messages for part in one.parts if isinstance(part, ToolReturnPart)]
                return ModelResponse([TextPart(" ".join(map(str, heard)))], usage=usage)

    def agent(self) -> Agent:
        agent = Agent(FunctionModel(self.respond), name="weather")

        @agent.tool_plain
        async def rain(town: str) -> str:
            self.do("rain")
            self.keys.append(ActivityContext.current().idempotency_key)
            return f"rain in {town}"

        @agent.tool_plain
        def sun(town: str) -> dict[str, str]:
            self.do("sun")
            self.keys.append(ActivityContext.current().idempotency_key)
            return {"sun": town}

        @agent.tool
        async def snow(ctx: RunContext) -> ToolReturn:
            self.do("snow")
            return ToolReturn("snow", content="Deep snow.", metadata={"cm": 30})

        return agent


UNITS = ("request 1", "rain", "sun", "request 2", "snow", "request 3")
ANSWER = "rain in Rome {'sun': 'Oslo'} snow"


class Model:
    """Makes the planned calls, one response per entry, then says "done"; fails once for each response in ``away``."""

    def __init__(self, *plan: Any, away: tuple[int, ...] = (), error: Exception | None = None, name: str | None = None):
        self.plan, self.away, self.error = plan, set(away), error or ConnectionError("away")
        self.asked: list[int] = []
        self.seen: list[list[ModelMessage]] = []
        self.model = FunctionModel(self.respond, model_name=name)

    async def respond(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        number = sum(isinstance(one, ModelResponse) for one in messages)
        self.asked.append(number)
        self.seen.append(list(messages))
        if number in self.away:
            self.away.discard(number)
            raise self.error
        if number >= len(self.plan):
            return ModelResponse([TextPart("done")], usage=RequestUsage(input_tokens=10))
        calls = self.plan[number] if isinstance(self.plan[number], list) else [self.plan[number]]
        parts = [ToolCallPart(*one, tool_call_id=f"c{number}.{at}") for at, one in enumerate(calls)]
        return ModelResponse(parts, usage=RequestUsage(input_tokens=10))

    def heard(self) -> list[Any]:
        """The tool results that the last request contained."""
        parts = [part for message in self.seen[-1] for part in message.parts]
        return [part.content for part in parts if part.part_kind in ("tool-return", "retry-prompt")]

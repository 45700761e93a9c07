"""The agents of the crash tests, which note what they do.

One makes three requests and three tool calls, two of them at once; one asks before it acts; one does all of it, and
dispatches a workflow of its own and waits for it.
"""

from __future__ import annotations

import asyncio

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage
from service import note

import paigeant.agents.durability  # noqa: F401 - here, once: processes that are forked later have it
from paigeant import ActivityContext, ActivitySpec

UNITS = ("model:1", "tool:1:a", "tool:1:b", "model:2", "tool:2:c", "model:3")
ANSWER = "rain in Rome; sun in Oslo; 30 cm of snow"


def did(what: str) -> None:
    note(what, ActivityContext.current())


async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    turn = len(messages) // 2 + 1
    await asyncio.sleep(0.02)
    did(f"model:{turn}")
    usage = RequestUsage(input_tokens=100 * turn, output_tokens=10)
    match turn:
        case 1:
            calls = [ToolCallPart("rain", {"town": "Rome"}, "a"), ToolCallPart("sun", {"town": "Oslo"}, "b")]
            return ModelResponse(calls, usage=usage)
        case 2:
            return ModelResponse([ToolCallPart("snow", {}, "c")], usage=usage)
        case _:
            heard = [part.content for one in messages for part in one.parts if isinstance(part, ToolReturnPart)]
            return ModelResponse([TextPart("; ".join(map(str, heard)))], usage=usage)


weather: Agent[None, str] = Agent(FunctionModel(respond), name="weather")


@weather.tool_plain
async def rain(town: str) -> str:
    did("tool:1:a")
    return f"rain in {town}"


@weather.tool_plain
async def sun(town: str) -> str:
    await asyncio.sleep(0.2)  # the other one is written down before this one ends
    did("tool:1:b")
    return f"sun in {town}"


@weather.tool_plain
def snow() -> str:
    did("tool:2:c")
    return "30 cm of snow"


async def ask(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    heard = [part.content for one in messages for part in one.parts if isinstance(part, ToolReturnPart)]
    did("answer" if heard else "request")
    if heard:
        return ModelResponse([TextPart(" and ".join(sorted(map(str, heard))))])
    return ModelResponse([ToolCallPart("refund", {"cents": 900}, "a"), ToolCallPart("look", {}, "b")])


clerk: Agent[None, str] = Agent(FunctionModel(ask), name="clerk")


@clerk.tool_plain(requires_approval=True)
async def refund(cents: int) -> str:
    did(f"refund {cents}")
    return f"refunded {cents}"


@clerk.tool_plain
async def look() -> str:
    did("look")
    return "looked"


async def plan(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    turn = len(messages) // 2 + 1
    did(f"model:{turn}")
    usage = RequestUsage(input_tokens=100 * turn, output_tokens=10)
    match turn:
        case 1:
            return ModelResponse([ToolCallPart("price", {}, "a"), ToolCallPart("research", {}, "b")], usage=usage)
        case 2:
            return ModelResponse([ToolCallPart("pay", {"cents": 900}, "c")], usage=usage)
        case _:
            heard = [part.content for one in messages for part in one.parts if isinstance(part, ToolReturnPart)]
            return ModelResponse([TextPart("; ".join(map(str, heard)))], usage=usage)


buyer: Agent[None, str] = Agent(FunctionModel(plan), name="buyer")


@buyer.tool_plain
async def price() -> str:
    await asyncio.sleep(0.1)  # the other one waits for its workflow by then
    did("tool:1:a")
    return "tea is 9"


@buyer.tool_plain
def research() -> str:
    context = ActivityContext.current()
    found = context.wait_for(context.dispatch(ActivitySpec(name="echo", arguments={"value": 8})))
    did("tool:1:b")
    return str(found)


@buyer.tool_plain(requires_approval=True)
async def pay(cents: int) -> str:
    did("tool:2:c")
    return f"paid {cents}"

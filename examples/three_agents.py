"""Three agents in a row: the topic, three jokes about it, the best of them.

    python examples/three_agents.py "What about work?"          # dispatches one workflow and works it off here
    paigeant execute topic_agent examples/three_agents.py       # or a worker for each agent

Each agent finds the output of the one before it in its deps, ``ctx.deps.previous_output``. PAIGEANT_EXAMPLE_MODEL names
a real model; without one, stand-ins speak that need no key.
"""

import asyncio
import os
import re
import sys
from collections.abc import Callable

from pydantic_ai import RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models import Model
from pydantic_ai.models.function import AgentInfo, FunctionModel

from paigeant import PaigeantAgent, Worker, WorkflowDependencies, WorkflowDispatcher


class JokeDeps(WorkflowDependencies):
    """What the agents share: it travels with each step."""

    audience: str = "colleagues"


dispatcher = WorkflowDispatcher()


def model(stand_in: Callable[[list[ModelMessage], AgentInfo], ModelResponse]) -> Model | str:
    return os.environ.get("PAIGEANT_EXAMPLE_MODEL") or FunctionModel(stand_in)


def find_topic(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    return ModelResponse(parts=[TextPart(re.findall(r"\w+", str(messages[0].parts[-1].content))[-1].lower())])


def tell_jokes(_messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    topic = re.search(r"The topic is (\w+)", info.instructions or "")
    told = [f"{number} jokes about {topic[1] if topic else 'nothing'}" for number in ("one", "two", "three")]
    return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, {"response": told})])


def choose(_messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    jokes = re.findall(r"^- (.+)$", info.instructions or "", re.MULTILINE)
    return ModelResponse(parts=[TextPart(max(jokes, key=len, default="(no joke)"))])


topic_agent = PaigeantAgent(
    model(find_topic),
    dispatcher=dispatcher,
    deps_type=JokeDeps,
    system_prompt="Extract the topic for jokes. Answer with the topic and nothing else.",
)
joke_agent = PaigeantAgent(
    model(tell_jokes),
    dispatcher=dispatcher,
    deps_type=JokeDeps,
    output_type=list[str],
    system_prompt="Write three short jokes.",
)
selector_agent = PaigeantAgent(
    model(choose),
    dispatcher=dispatcher,
    deps_type=JokeDeps,
    system_prompt="Choose the best joke. Answer with it, word for word.",
)


@joke_agent.instructions
def about(ctx: RunContext[JokeDeps]) -> str:
    found = ctx.deps.previous_output
    return f"The topic is {found.output if found else 'yours'}. You write for {ctx.deps.audience}."


@selector_agent.instructions
def candidates(ctx: RunContext[JokeDeps]) -> str:
    found = ctx.deps.previous_output
    return "The jokes:\n" + "\n".join(f"- {joke}" for joke in (found.output if found else []))


async def main(request: str) -> None:
    """Dispatch one workflow and work it off here."""
    deps = JokeDeps(audience="my team")
    topic_agent.add_to_runway(prompt=request, deps=deps)
    joke_agent.add_to_runway(prompt="Write the jokes.", deps=deps)
    selector_agent.add_to_runway(prompt="Which is the best?", deps=deps)
    correlation_id = await dispatcher.dispatch_workflow()
    print("workflow", correlation_id)
    await Worker(dispatcher.app, burst=True).run()
    print(await dispatcher.app.workflow(correlation_id).result(timeout=5))
    await dispatcher.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "Make us laugh about work."))

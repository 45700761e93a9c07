"""The joke workflow: two agents on the runway, and a third that the second one may insert.

    python examples/jokes.py "Tell me something about cats!"    # dispatches one workflow and works it off here
    paigeant execute writer examples/jokes.py                   # or a worker for each agent, wherever it runs

The joke ends up in the file ``jokes.txt``, which plays the part of a chat channel. The agents speak through stand-ins
that need no key. PAIGEANT_EXAMPLE_MODEL names a real model, for example ``anthropic:claude-sonnet-4-5``.
"""

import asyncio
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models import Model
from pydantic_ai.models.function import AgentInfo, FunctionModel

from paigeant import ActivityContext, PaigeantAgent, Worker, WorkflowDependencies, WorkflowDispatcher

dispatcher = WorkflowDispatcher()


# --- stand-ins for models --------------------------------------------------------------------------------------------


def model(stand_in: Callable[[list[ModelMessage], AgentInfo], ModelResponse]) -> Model | str:
    return os.environ.get("PAIGEANT_EXAMPLE_MODEL") or FunctionModel(stand_in)


def extract(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    words = re.findall(r"\w+", str(messages[0].parts[-1].content))
    return ModelResponse(parts=[TextPart(words[-1].lower())])


def write(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Asks for the notifier, if it may, and then writes the joke."""
    if not isinstance(messages[-1].parts[-1], ToolReturnPart) and info.function_tools:
        return ModelResponse(
            parts=[ToolCallPart("_edit_itinerary", {"notifier-agent": "Send the joke to the channel."})]
        )
    topic = re.search(r'as JSON:\n"(.+)"', info.instructions or "")
    return ModelResponse(
        parts=[TextPart(f"Two {topic[1] if topic else 'jokes'} walk into a bar. The third one ducks.")]
    )


def notify(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    if isinstance(messages[-1].parts[-1], ToolReturnPart):
        return ModelResponse(parts=[TextPart("The joke is in the channel.")])
    joke = re.search(r'as JSON:\n"(.+)"', info.instructions or "")
    return ModelResponse(parts=[ToolCallPart("post", {"text": joke[1] if joke else "(no joke)"})])


# --- the agents ------------------------------------------------------------------------------------------------------

extractor = PaigeantAgent(
    model(extract),
    dispatcher=dispatcher,
    deps_type=WorkflowDependencies,
    system_prompt="Extract the topic for a joke from what the user says. Answer with the topic and nothing else.",
)
writer = PaigeantAgent(
    model(write),
    dispatcher=dispatcher,
    deps_type=WorkflowDependencies,
    can_edit_itinerary=True,
    system_prompt="You write short jokes. Answer with the joke and nothing else.",
)
notifier = PaigeantAgent(
    model(notify),
    dispatcher=dispatcher,
    name="notifier-agent",
    deps_type=WorkflowDependencies,
    description="Posts the output of the step before it to the team's channel.",
    system_prompt="Post the joke you are given with the tool, word for word.",
)


@notifier.tool_plain
def post(text: str) -> str:
    """Post a text to the channel.

    A step may run again after a crash. So the line says which call it is of, and is written if it is not there.
    """
    channel, key = Path("jokes.txt"), ActivityContext.current().idempotency_key
    line = f"{text}  [{key}]\n"
    if not channel.exists() or line not in channel.read_text():
        with channel.open("a") as file:
            file.write(line)
    return "posted"


notifier.register_activity(prompt="Post the joke.", deps=WorkflowDependencies())


async def main(request: str) -> None:
    """Dispatch one workflow and work it off here."""
    extractor.add_to_runway(prompt=request, deps=WorkflowDependencies())
    writer.add_to_runway(
        prompt="""
        Write a joke about the topic.
        After writing, call _edit_itinerary({"notifier-agent": "Send the joke to the channel"}).
        """,
        deps=WorkflowDependencies(),
    )
    correlation_id = await dispatcher.dispatch_workflow()
    print("workflow", correlation_id)
    await Worker(dispatcher.app, burst=True).run()
    record = await dispatcher.app.workflow(correlation_id).record()
    for step in record.steps:
        print(f"{step.activity}: {step.output}")
    await dispatcher.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "Tell me a joke about programming!"))

"""The dispatch pattern: agents line up on the runway of a dispatcher, and one call sends the workflow.

    python examples/dispatcher_example.py "Tell me a joke about cats!"                        # dispatches
    python examples/execution_example.py joke-generator examples.dispatcher_example --burst   # runs its first step
    python examples/execution_example.py joke-selector examples.dispatcher_example --burst    # runs its second step

The agents use stand-ins that need no key. PAIGEANT_EXAMPLE_MODEL names a real model, for example
``anthropic:claude-sonnet-4-5``.
"""

import asyncio
import os
import sys

from pydantic_ai import RunContext
from pydantic_ai.models.test import TestModel

from paigeant import PaigeantAgent, WorkflowDependencies, WorkflowDispatcher


class JokeWorkflowDeps(WorkflowDependencies):
    """What the agents share: it travels with each step."""

    audience: str = "colleagues"


def model(answer: str) -> TestModel | str:
    return os.environ.get("PAIGEANT_EXAMPLE_MODEL") or TestModel(custom_output_text=answer, call_tools=[])


dispatcher = WorkflowDispatcher()

joke_generator = PaigeantAgent(
    model("Two cats walk into a bar. Why did the cat cross the road?"),
    dispatcher=dispatcher,
    name="joke-generator",
    deps_type=JokeWorkflowDeps,
    system_prompt="Write two short jokes.",
)
joke_selector = PaigeantAgent(
    model("Two cats walk into a bar."),
    dispatcher=dispatcher,
    name="joke-selector",
    deps_type=JokeWorkflowDeps,
    system_prompt="Choose the best joke. Answer with it, word for word.",
)


@joke_generator.instructions
def audience(ctx: RunContext[JokeWorkflowDeps]) -> str:
    return f"You write for {ctx.deps.audience}."


@joke_selector.instructions
def candidates(ctx: RunContext[JokeWorkflowDeps]) -> str:
    written = ctx.deps.previous_output
    return f"The jokes: {written.output if written else 'none'}"


async def main(request: str) -> None:
    """Dispatch one workflow; workers run it, now or later."""
    deps = JokeWorkflowDeps(audience="my team")
    joke_generator.add_to_runway(prompt=request, deps=deps)
    joke_selector.add_to_runway(prompt="Which joke is the best?", deps=deps)
    print(await dispatcher.dispatch_workflow())
    await dispatcher.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "Tell me a joke about cats!"))

"""Three agents in a row, each with a worker of its own: input, enrichment, output.

    python examples/three_agent_workflow_example.py "Where is my order 42?"

Each worker forwards the message to the next agent's queue. The three workers run in this process, one after the other;
in production each is a process on any machine: ``paigeant execute input_agent FILE``. The correlation id finds the
workflow from beginning to end. PAIGEANT_EXAMPLE_MODEL names a real model.
"""

import asyncio
import os
import sys

from pydantic_ai.models.test import TestModel

from paigeant import ActivityExecutor, PaigeantAgent, WorkflowDependencies, WorkflowDispatcher


def model(answer: str) -> TestModel | str:
    return os.environ.get("PAIGEANT_EXAMPLE_MODEL") or TestModel(custom_output_text=answer)


dispatcher = WorkflowDispatcher()
input_agent = PaigeantAgent(model("order 42"), dispatcher=dispatcher, system_prompt="What is the question about?")
enrichment_agent = PaigeantAgent(model("order 42: shipped"), dispatcher=dispatcher, system_prompt="Add what you know.")
output_agent = PaigeantAgent(model("Your order 42 is on its way."), dispatcher=dispatcher, system_prompt="Answer.")


async def main(request: str) -> None:
    """Dispatch one workflow, run each agent's worker once, and show what each agent answered."""
    input_agent.add_to_runway(prompt=request, deps=WorkflowDependencies())
    enrichment_agent.add_to_runway(prompt="Enrich it.", deps=WorkflowDependencies())
    output_agent.add_to_runway(prompt="Answer the customer.", deps=WorkflowDependencies())
    correlation_id = await dispatcher.dispatch_workflow()
    print("workflow", correlation_id)
    for name in ("input_agent", "enrichment_agent", "output_agent"):
        await ActivityExecutor(dispatcher.app.transport, name, dispatcher, burst=True).start()
    record = await dispatcher.app.workflow(correlation_id).record()
    for step in record.steps:
        print(f"{step.activity}: {step.output}")
    await dispatcher.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "Where is my order 42?"))

"""The executor pattern: a worker process for one activity.

    python examples/execution_example.py joke-generator examples.dispatcher_example

With ``--burst`` it ends when nothing is left to do. The broker is the one of the settings; for Redis:
``export PAIGEANT_TRANSPORT=redis``.
"""

import asyncio
import sys

from paigeant import ActivityExecutor, get_transport


async def main(agent_name: str, agent_path: str, *, burst: bool) -> None:
    """Serve the steps of this agent."""
    executor = ActivityExecutor(get_transport(), agent_name=agent_name, agent_path=agent_path, burst=burst)
    await executor.start()


if __name__ == "__main__":
    names = [argument for argument in sys.argv[1:] if argument != "--burst"]
    if len(names) != 2:
        sys.exit("usage: python examples/execution_example.py AGENT_NAME MODULE [--burst]")
    asyncio.run(main(names[0], names[1], burst="--burst" in sys.argv))

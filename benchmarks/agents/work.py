"""The agent that every system runs."""

from __future__ import annotations

import os

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from benchmarks.agents.server import SERVER


def prompt(requests: int) -> str:
    """What makes the model ask for a tool between each two of so many requests."""
    return f"What is known about the words? Find out in {requests} requests."


def make_agent() -> Agent[None, str]:
    """An agent with a client of its own. Its model has a name whose price is known, so that nobody has to search."""
    provider = OpenAIProvider(base_url=os.environ[SERVER], api_key="none")
    agent = Agent(OpenAIChatModel("gpt-4o-mini", provider=provider), name="agent")
    agent.tool_plain(look_up)
    return agent


async def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} is known."

"""pydantic-ai agents as activities. pydantic-ai itself is imported when an agent runs, never before."""

from __future__ import annotations

from paigeant.agents.activity import AgentActivity, agent_activity
from paigeant.agents.conversation import Conversation
from paigeant.agents.tools import workflow_tools

__all__ = ["AgentActivity", "Conversation", "agent_activity", "workflow_tools"]

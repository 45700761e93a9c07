"""Turns: agents that process a queue of tool calls and stream the results, in this process or as steps on workers.

A :func:`tool` is an async function, a :class:`Turn` is one call of a tool with its arguments, and an :class:`Agent`
runs its turns in order. The names are those of pygents.
"""

from __future__ import annotations

from paigeant.turns.agent import Agent
from paigeant.turns.hooks import AgentHook, Hook, ToolHook, TurnHook, hook
from paigeant.turns.tools import Tool, tool
from paigeant.turns.turn import StopReason, Turn

__all__ = ["Agent", "AgentHook", "Hook", "StopReason", "Tool", "ToolHook", "Turn", "TurnHook", "hook", "tool"]

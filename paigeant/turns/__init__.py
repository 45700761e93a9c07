"""Turns: agents that work through a queue of tool calls and stream the results; in process, or as steps over a broker.

A :func:`tool` is an async function, a :class:`Turn` says which one to run with what, and an :class:`Agent` runs its
turns in order. The names are those of pygents.
"""

from __future__ import annotations

from paigeant.turns.agent import Agent
from paigeant.turns.hooks import AgentHook, Hook, ToolHook, TurnHook, hook
from paigeant.turns.tools import Tool, tool
from paigeant.turns.turn import StopReason, Turn

__all__ = ["Agent", "AgentHook", "Hook", "StopReason", "Tool", "ToolHook", "Turn", "TurnHook", "hook", "tool"]

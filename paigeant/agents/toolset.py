"""Tools of a durable run: each call goes through the journal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pydantic_ai.tools import RunContext
from pydantic_ai.toolsets import AbstractToolset, FunctionToolset, ToolsetTool, WrapperToolset

Call = Callable[[RunContext[Any]], Any]
"""Calls a tool with this context of its run."""


class Calls(Protocol):
    """Reads and records the tool calls of a run."""

    async def call(self, name: str, arguments: dict[str, Any], ctx: RunContext[Any], call: Call) -> Any:
        """Return the result of a tool call, from the journal if it is recorded."""
        ...

    async def validated(self, name: str, arguments: dict[str, Any], ctx: RunContext[Any], check: Call) -> None:
        """Apply the ruling of the tool's validator, from the journal if it is recorded."""
        ...

    def finished_tools(self) -> set[str]:
        """The names of the tools that the next model response calls and whose calls are finished."""
        ...


@dataclass
class JournaledToolset(WrapperToolset[Any]):
    """A toolset whose results are recorded, and read from the journal in a replay."""

    calls: Calls

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        """The tools that are offered now, and those of finished calls that are hidden by now."""
        tools = await self.wrapped.get_tools(ctx)
        hidden = {name: _as_it_was(self.wrapped, name) for name in self.calls.finished_tools() - tools.keys()}
        tools |= {name: tool for name, tool in hidden.items() if tool is not None}
        return {name: self._validated(name, tool) for name, tool in tools.items()}

    def _validated(self, name: str, tool: ToolsetTool[Any]) -> ToolsetTool[Any]:
        check = tool.args_validator_func
        if check is None:
            return tool

        async def validate(ctx: RunContext[Any], **arguments: Any) -> None:
            await self.calls.validated(name, arguments, ctx, lambda own: check(own, **arguments))

        return replace(tool, args_validator_func=validate)

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        async def call(own: RunContext[Any]) -> Any:
            return await self.wrapped.call_tool(name, tool_args, own, tool)

        return await self.calls.call(name, tool_args, ctx, call)


def _as_it_was(toolset: AbstractToolset[Any], name: str) -> ToolsetTool[Any] | None:
    """A tool that is not offered now. The run only reads the recorded result of a call to it."""
    found: list[ToolsetTool[Any]] = []

    def look(leaf: AbstractToolset[Any]) -> None:
        if isinstance(leaf, FunctionToolset) and name in leaf.tools:
            tool = leaf.tools[name]
            validator = tool.function_schema.validator
            found.append(ToolsetTool(toolset=leaf, tool_def=tool.tool_def, max_retries=1, args_validator=validator))

    toolset.apply(look)
    return found[0] if found else None

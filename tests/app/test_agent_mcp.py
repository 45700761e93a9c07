"""Agents with tools of a real MCP server, a process of its own, which is killed in the middle."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from brokers.servers import free_port
from helpers import until
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from paigeant import RetryPolicy

pytest.importorskip("mcp.server.mcpserver", reason="needs pydantic-ai-slim[mcp] with release 2 of mcp")

pytestmark = pytest.mark.anyio

SOON = 60


SERVER = str(Path(__file__).parent / "mcp_server.py")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What the server was asked to do."""
    made = tmp_path / "calls"
    made.touch()
    return made


@pytest.fixture(params=["stdio", "http"])
def transport(request: pytest.FixtureRequest, log: Path) -> Iterator[Any]:
    """How the server is reached: as a child of the run, or on a port, where it is started again when it dies."""
    from fastmcp.client.transports import StdioTransport, StreamableHttpTransport

    if request.param == "stdio":
        yield StdioTransport(sys.executable, [SERVER, str(log)], keep_alive=False)
        return
    with kept_running([sys.executable, SERVER, str(log), str(port := free_port())]):
        until(lambda: is_open(port), 30)
        yield StreamableHttpTransport(f"http://127.0.0.1:{port}/mcp")


def is_open(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextmanager
def kept_running(command: Sequence[str]) -> Iterator[None]:
    """Runs the command, again whenever it ends."""
    over, running = threading.Event(), [subprocess.Popen(command)]

    def watch() -> None:
        while True:
            running[-1].wait()
            if over.is_set():
                return
            running.append(subprocess.Popen(command))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        running[-1].kill()
        watching.join(10)
    assert len(running) == 2, "the server died once"


async def test_what_a_server_did_is_not_done_again_when_it_dies(
    make_app: Any, running: Any, tmp_path: Path, log: Path, transport: Any
) -> None:
    """Nor when the run is interrupted on our side: the model hears of the call during which the server died.

    Over HTTP the attempts fail until the server is there again.
    """
    from pydantic_ai.mcp import MCPToolset

    asked: list[int] = []

    def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        number = sum(isinstance(one, ModelResponse) for one in messages)
        asked.append(number)
        if asked.count(2) == 1 and number == 2:
            raise ConnectionError("away")
        plan = [("charge", {"cents": 5}), ("risky", {}), ("risky", {}), ("charge", {"cents": 7})]
        if number == len(plan):
            parts = [part.content for one in messages for part in one.parts if part.part_kind == "tool-return"]
            return ModelResponse([TextPart(str(parts))])
        return ModelResponse([ToolCallPart(*plan[number], tool_call_id=f"c{number}")])

    shop = MCPToolset(transport)
    app = make_app(f"sqlite:///{tmp_path / 'here.db'}")
    buyer = app.activity(
        Agent(FunctionModel(respond), toolsets=[shop]),
        name="buyer",
        retry=RetryPolicy(attempts=20, quick=1, delay=0.5, factor=1),
    )
    async with running(app):
        workflow = await app.dispatch(buyer.step(prompt="Buy."))
        output = await workflow.result(SOON)
    assert (await asyncio.to_thread(log.read_text)).splitlines() == ["charge 5", "risky", "risky", "charge 7"]
    assert output == "[{'charged': 5}, 'Connection closed', 'survived', {'charged': 7}]"
    assert asked == [0, 1, 2, 2, 3, 4]

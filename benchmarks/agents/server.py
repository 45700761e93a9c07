"""A model server as OpenAI's whose answers take a while: ``python -m benchmarks.agents.server PORT SECONDS``.

Asked for an answer "in N requests", it asks N - 1 times for the tool ``look_up`` and then answers. Each answer is
marked with how many requests are left, so that no system is measured by its own clock.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from functools import partial
from typing import Any

from benchmarks import work

SERVER = "BENCH_MODEL_SERVER"
"""The environment variable in which its address stands."""


async def serve(port: int, seconds: float) -> None:
    server = await asyncio.start_server(partial(_connection, seconds), "127.0.0.1", port, backlog=1000)
    async with server:
        await server.serve_forever()


async def _connection(seconds: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            asked = await _request(reader)
            await asyncio.sleep(seconds)
            turn, said = answer(asked)
            body = json.dumps(said).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
            writer.write(body)
            work.mark(turn, 0)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _request(reader: asyncio.StreamReader) -> dict[str, Any]:
    """
    Raises:
        IncompleteReadError: the client has gone.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    asked: dict[str, Any] = json.loads(await reader.readexactly(int(headers["content-length"])))
    return asked


def answer(asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """How many requests are left of the agent's run, and a chat completion."""
    asks = next(one["content"] for one in asked["messages"] if one["role"] == "user")
    done = sum(one["role"] == "assistant" for one in asked["messages"])
    left = int(re.findall(r"in (\d+) requests", asks)[0]) - 1 - done
    message: dict[str, Any] = {"role": "assistant", "content": "It is known." if not left else None}
    if left:
        call = {"name": "look_up", "arguments": json.dumps({"word": f"word {left}"})}
        message["tool_calls"] = [{"id": f"call-{left}", "type": "function", "function": call}]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if left else "stop"}
    usage = {"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60}
    head = {"id": "completion", "object": "chat.completion", "created": 1_700_000_000, "model": asked["model"]}
    return left, {**head, "choices": [choice], "usage": usage}


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))

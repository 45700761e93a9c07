"""An example with a client of a real model, which speaks HTTP with a server that is compatible with OpenAI's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from examples_run import EXAMPLES, environment, paigeant
from http_server import answering
from processes import run

pytest.importorskip("openai")

SUPPORT = EXAMPLES / "support.py"


def respond(body: str) -> tuple[int, str]:
    """What is wanted as a tool call is given as one, with values for it; the rest is text."""
    asked = json.loads(body)
    message: dict[str, Any] = {"role": "assistant", "content": "Dear customer, we are looking into it."}
    if tools := asked.get("tools"):
        given = json.dumps({"priority": "high", "subject": "wrong invoice"})
        call = {"id": "1", "type": "function", "function": {"name": tools[0]["function"]["name"], "arguments": given}}
        message |= {"content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if tools else "stop"}
    usage = {"prompt_tokens": 50, "completion_tokens": 7, "total_tokens": 57}
    about = {"id": "1", "object": "chat.completion", "created": 0, "model": asked["model"]}
    return 200, json.dumps(about | {"choices": [choice], "usage": usage})


def test_support_with_a_model_over_http(tmp_path: Path) -> None:
    """Its agents ask the server once each, and what they used is known."""
    with answering(respond) as (url, asked):
        real = {
            "PAIGEANT_EXAMPLE_MODEL": "openai-chat:gpt-4o",
            "OPENAI_BASE_URL": f"{url}/v1",
            "OPENAI_API_KEY": "none",
        }
        ran = run(str(SUPPORT), "The invoice is wrong!", cwd=tmp_path, env=environment() | real)
        assert ran.returncode == 0, ran.stderr
    assert "Dear customer, we are looking into it." in ran.stdout
    assert len(asked) == 2
    (workflow,) = json.loads(paigeant("workflows", "--json", cwd=tmp_path).stdout)
    shown = json.loads(paigeant("workflow", workflow["correlation_id"], "--json", cwd=tmp_path).stdout)
    assert shown["used"]["requests"] == 2
    assert (shown["used"]["input_tokens"], shown["used"]["output_tokens"]) == (100, 14)
    assert shown["used"]["cost"] == pytest.approx(100 * 2.5e-6 + 14 * 10e-6)

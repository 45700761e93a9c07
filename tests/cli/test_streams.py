"""Output of commands where standard output is not UTF-8."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

TEXTS = """
from paigeant import App

app = App("texts")


@app.activity
def text() -> dict:
    return {"price": "5 € — 😀", "lone": "x"}
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_result_is_printed_in_every_encoding(terminal: Any, encoding: str) -> None:
    """As JSON that says the same; a table is printed, too, with what the encoding lacks as escapes."""
    terminal.write(texts=TEXTS)
    workflow = terminal.run("dispatch", "-A", "texts", "text", "--name", "5 €").stdout.strip()
    terminal.run("worker", "-A", "texts", "--burst")

    def printed(*arguments: str) -> str:
        environment = terminal.environment | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
        command = [sys.executable, "-m", "paigeant", *arguments, "-A", "texts"]
        done = subprocess.run(command, cwd=terminal.folder, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode("utf-8" if encoding == "ascii" else encoding)  # click takes ASCII for a mistake

    assert json.loads(printed("result", workflow)) == {"price": "5 € — 😀", "lone": "x"}
    assert workflow in printed("workflows")
    assert ("5 \\u20ac" if encoding == "latin-1" else "5 €") in printed("workflow", workflow)

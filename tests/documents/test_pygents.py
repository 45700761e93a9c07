"""Every block of the pygents document runs. The page is https://pypi.org/project/pygents/0.2.1/ as text."""

from __future__ import annotations

import re
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent / "pygents-0.2.1-pypi.md").read_text()
EXAMPLE = re.search(r"^import asyncio\n.*?^asyncio\.run\(main\(\)\)$", PAGE, re.DOTALL | re.MULTILINE)
SIGNATURE = re.search(r"^    Turn\(\n.*?^    \)$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_example_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    """As printed, but for the name of the package."""
    assert EXAMPLE is not None
    exec(EXAMPLE[0].replace("from pygents import", "from paigeant.turns import"), {"__name__": "page"})

    assert capsys.readouterr().out == "Hello, World!\n" * 2


def test_a_turn_takes_its_arguments_in_the_order_of_the_page() -> None:
    """``...`` stands for a value each; without the names, they are taken in that order."""
    from paigeant.turns import StopReason, Turn, tool

    @tool()
    async def tool_name(x: int, y: int) -> int:
        return x + y

    assert SIGNATURE is not None
    at = datetime(2026, 1, 1, tzinfo=UTC)
    values = {
        "args=[...]": "args=[1]",
        "kwargs={...}": "kwargs={'y': 2}",
        "timeout=...": "timeout=5",
        "start_time=...": "start_time=at",
        "end_time=...": "end_time=at",
        "stop_reason=...": "stop_reason='completed'",
        "metadata={...}": "metadata={'id': 7}",
    }
    source = textwrap.dedent(SIGNATURE[0])
    for placeholder, value in values.items():
        assert placeholder in source
        source = source.replace(placeholder, value)
    names = {"Turn": Turn, "at": at}
    for turn in (eval(source, names), eval(re.sub(r"\b\w+=", "", source), names)):
        assert (turn.tool, turn.args, turn.kwargs, turn.timeout) == (tool_name, [1], {"y": 2}, 5)
        assert (turn.start_time, turn.end_time, turn.stop_reason) == (at, at, StopReason.COMPLETED)
        assert turn.metadata == {"id": 7}
        assert not hasattr(turn, "uuid")

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from paigeant.runtime.characters import escaped

APP = """
import logging
import threading

from paigeant import ActivityContext, App

app = App("logging")
ours = logging.getLogger("shop.orders")


@app.activity
async def say(word: str, ctx: ActivityContext) -> str:
    ours.info("said in a coroutine", extra={"words": 1})
    ctx.logger.info("said by the context's logger")
    return "output-" + word


@app.activity
def threaded(word: str) -> str:
    ours.warning("said in a thread")
    return word


@app.activity
def fail(word: str) -> None:
    raise ValueError("text-of-the-error")
"""
BOUND = {"correlation_id", "step", "activity", "attempt", "worker"}


def test_lines_of_a_step_carry_what_they_belong_to(terminal) -> None:
    """Ours, the context's logger and the standard library's, in coroutines and threads; JSON where nobody looks."""
    terminal.write(shop=APP)
    sent = terminal.run("dispatch", "-A", "shop", "say", "threaded", "--input", '{"word": "secret-argument"}')
    worker = terminal.run("worker", "-A", "shop", "--burst")
    assert worker.stdout == ""
    lines = {line["event"]: line for line in map(json.loads, worker.stderr.splitlines())}
    said = ["said in a coroutine", "said by the context's logger", "said in a thread", "step completed"]
    for event in said:
        assert lines[event].keys() >= BOUND
        assert lines[event]["correlation_id"] == sent.stdout.strip()
        assert lines[event]["timestamp"].endswith("Z")
    assert lines["said in a coroutine"]["words"] == 1
    assert (lines["said in a thread"]["logger"], lines["said in a thread"]["level"]) == ("shop.orders", "warning")
    assert next(iter(lines)) == "worker ready"


@pytest.mark.parametrize("level", ["info", "error"])
def test_no_data_in_the_log(terminal, level: str) -> None:
    """Neither arguments nor outputs, nor the text of an exception: its type and the workflow's id."""
    terminal.write(shop=APP)
    for first, argument in (("say", "secret-argument"), ("fail", "secret-argument"), ("say", "other-argument")):
        terminal.dispatch("logging", first, word=argument)
    options = ("--log-level", level, "--log-format", "console")
    log = terminal.run("worker", "-A", "shop", "--burst", *options, PAIGEANT_LOG_LEVEL="debug").stderr
    assert "step failed" in log
    assert "error_type=ValueError" in log
    assert "correlation_id=" in log
    assert not any(data in log for data in ("-argument", "output-", "text-of-the-error"))
    assert ("worker ready" in log) == (level == "info")
    assert "\x1b" not in log


def script(tmp_path: Path, source: str) -> list[str]:
    """What a process that logs with this source writes to standard error."""
    path = tmp_path / "script.py"
    path.write_text("import logging, structlog, warnings\nfrom paigeant.runtime import logs\n" + source)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_one_line_of_json_whatever_is_logged(tmp_path: Path) -> None:
    """Line breaks, escape sequences, values that JSON cannot hold, values whose repr fails."""
    lines = script(
        tmp_path,
        """
logs.configure("info", "json")
class Bad:
    def __repr__(self): raise RuntimeError("no")
log = structlog.get_logger("mine")
log.info("two\\nlines", data=b"\\xff", number=float("nan"), thing=object())
log.info("bad", thing=Bad())
log.info("surrogate \\ud800")
log.debug("not shown")
logging.getLogger("other").info("with %s", "\\x1b[31margument")
try: 1 / 0
except ZeroDivisionError: log.exception("failed"); logging.exception("failed too")
logging.getLogger("kombu").info("not shown")
logging.getLogger("httpx").info("GET https://api/?key=secret")
warnings.warn("mind the step")
""",
    )
    found = [json.loads(line) for line in lines]
    assert [line["event"] for line in found] == [
        "two\nlines",
        "bad",
        "surrogate \ud800",
        "with \x1b[31margument",
        "failed",
        "failed too",
        "mind the step",
    ]
    assert "ZeroDivisionError" in found[4]["exception"]
    assert "ZeroDivisionError" in found[5]["exception"]


def test_console_lines_cannot_be_forged(tmp_path: Path) -> None:
    """Data cannot move the cursor or look like another line."""
    first, *_ = script(
        tmp_path,
        """
logs.configure("info", "console")
structlog.get_logger("mine").warning("one\\n2026 [error] forged \\x1b[2J", name="\\x1b]0;x\\x07")
""",
    )
    assert "forged" in first
    assert "\x1b" not in first


@pytest.mark.parametrize("format", ["console", "json"])
def test_no_line_contains_a_hidden_character(tmp_path: Path, format: str) -> None:  # noqa: A002
    """Neither in its text, nor in a value, nor in a traceback, on consoles and in JSON."""
    lines = script(
        tmp_path,
        f"""
logs.configure("info", {format!r})
EVIL = "\\x9b31m\\u202eevil\\u2066\\u200b\\ufeff"
log = structlog.get_logger("mine")
log.warning(EVIL, name=EVIL, names=[EVIL])
logging.warning("%s", EVIL)
try: raise ValueError(EVIL)
except ValueError: log.exception("failed"); logging.exception("failed")
""",
    )
    shown = "\n".join(lines)
    assert escaped(shown) == shown
    assert shown.count(r"\u202eevil") >= 6


def test_console_does_not_show_local_variables(tmp_path: Path) -> None:
    """A traceback of a log call has no values in it."""
    shown = script(
        tmp_path,
        """
logs.configure("info", "console")
def f():
    token = "secret" + "-token"
    raise ValueError("boom")
try: f()
except ValueError: structlog.get_logger().exception("failed")
""",
    )
    assert "boom" in "\n".join(shown)
    assert "secret-token" not in "\n".join(shown)


def test_a_closed_standard_error_is_no_reason_to_stop(tmp_path: Path) -> None:
    """The terminal is gone, the work is not."""
    source = "import sys\nlogs.configure()\nsys.stderr.close()\nlogging.error('x')\nstructlog.get_logger().error('y')"
    assert script(tmp_path, source) == []


def test_a_line_is_cheap(tmp_path: Path) -> None:
    """Well under 30 microseconds for the line of a step: the best of several runs, since machines are busy."""
    (line,) = script(
        tmp_path,
        """
import os, sys, time
logs.configure("info", "json")
structlog.contextvars.bind_contextvars(correlation_id="0" * 36, step="1", activity="a", attempt=1, worker="host-1-ab")
log = structlog.stdlib.get_logger("paigeant.runner")
real, sys.stderr = sys.stderr, open(os.devnull, "w")
def run():
    began = time.process_time()
    for _ in range(500): log.info("step completed", seconds=0.123)
    return (time.process_time() - began) / 500
best = min(run() for _ in range(20))
print(best, file=real)
""",
    )
    assert float(line) < 30e-6

"""Habits of other tools work, or are answered: a group without a command, -b everywhere, a worker before its broker."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pytest
from click.testing import Result

from paigeant.cli.output import legend, price, spent
from paigeant.runtime.trouble import how_to_start
from paigeant.wire.usage import Usage

Paigeant = Callable[..., Result]

NOBODY = "amqp://127.0.0.1:1"


def test_a_group_without_a_command_prints_its_whole_help(in_process: Callable[[str], Paigeant]) -> None:
    """On standard error, with the exit code of wrong usage."""
    paigeant = in_process("memory://")
    done = paigeant("dlq", code=2)
    assert done.stdout == ""
    assert done.stderr.replace("cli dlq", "paigeant dlq") == paigeant("dlq", "--help").stdout.replace("cli", "paigeant")
    assert "Error" not in done.stderr


def test_every_command_that_reaches_a_broker_has_the_option(terminal) -> None:
    """The whole way of a workflow on another broker than that of the settings."""
    broker = ("-b", f"sqlite:///{terminal.folder / 'other.db'}")
    given = ("--input", '{"email": "ada@example.com"}')
    terminal.run("dispatch", "-A", "onboarding", "validate", *given, "--id", "other-1", *broker)
    terminal.run("execute", "validate", "onboarding", "--burst", *broker)
    assert terminal.run("result", "other-1", *broker).stdout == '"ada@example.com"\n'
    terminal.run("dispatch", "-A", "onboarding", "validate", *given, "--id", "other-2", *broker)
    terminal.run("worker", "-A", "onboarding", "--burst", *broker)
    assert terminal.run("result", "other-2", *broker).stdout == '"ada@example.com"\n'
    assert not (terminal.folder / "paigeant.db").exists()


def test_a_worker_that_starts_before_its_broker_waits_for_it(terminal) -> None:
    """The log says so, how to start one, and how not to wait."""
    worker = terminal.start("worker", "-A", "onboarding", "-b", NOBODY, "--log-format", "json")
    worker.wait_logged("waiting for it; with --no-wait the worker exits instead")
    assert "docker run -p 5672:5672 rabbitmq:4" in worker.log
    worker.send(signal.SIGINT)
    assert worker.wait() == 0
    assert '"worker stopped"' in worker.log


def test_a_worker_logs_its_code_and_its_end(terminal) -> None:
    """The code is that which `paigeant workers --json` shows."""
    worker = terminal.start("worker", "-A", "onboarding", "--log-format", "json")
    worker.wait_ready()
    (code,) = re.findall(r'"code": ?"([0-9a-f]{12})"', worker.log)
    (record,) = terminal.json("workers", "--json")
    assert record["code"] == code
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert "worker stopped" in worker.log.splitlines()[-1]


def test_settings_of_several_values_are_shown_plainly(in_process: Callable[[str], Paigeant]) -> None:
    """Not as Python writes them."""
    paigeant = in_process("memory://")
    (line,) = (line for line in paigeant("config").stdout.splitlines() if line.startswith("obo_algorithms"))
    assert "RS256, PS256, ES256, EdDSA" in line
    assert "(" not in line


@pytest.mark.parametrize(
    ("used", "shown"),
    [
        (Usage(requests=1, input_tokens=1, cost=0.5), "1 token, 1 request, 0 tool calls, $0.5000"),
        (
            Usage(requests=2, tool_calls=1, input_tokens=54, unpriced=2),
            "54 tokens, 2 requests, 1 tool call, price unknown",
        ),
        (Usage(requests=2, cost=0.25, unpriced=1), "0 tokens, 2 requests, 0 tool calls, $0.2500 or more"),
        (Usage(tool_calls=1), "0 tokens, 0 requests, 1 tool call, $0.0000"),
        (Usage(), ""),
    ],
)
def test_what_agents_used_is_told_in_words(used: Usage, shown: str) -> None:
    """Singular and plural, and a price that is not known."""
    assert spent(used) == shown


def test_a_column_of_prices_has_a_legend_where_a_price_is_unknown() -> None:
    """No bare question mark."""
    known, unknown = Usage(requests=1, cost=0.1), Usage(requests=1, unpriced=1)
    assert (price(known), price(unknown)) == ("$0.1000", "-")
    assert legend([known, unknown]) == "cost: the price of 1 request is unknown"
    assert legend([known]) is None


@pytest.mark.parametrize(
    ("url", "starts"), [("amqps://h", "rabbitmq"), ("redis://h", "redis:"), ("postgresql+psycopg://h/x", "postgres:")]
)
def test_how_to_start_a_server(url: str, starts: str) -> None:
    """By the scheme of its URL; for anything but a server that is away there is no such advice."""
    assert starts in (how_to_start(ConnectionError(f"cannot use the broker {url}: Connection refused")) or "")
    assert how_to_start(ConnectionError(f"cannot use the broker {url}: login was refused")) is None
    assert how_to_start(ConnectionError("cannot use the broker sqlite:///x.db: connection closed")) is None

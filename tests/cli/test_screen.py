"""What data contains never reaches a terminal as it is: not by any command, not by any log line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import Result

from paigeant import App, Worker, await_approval
from paigeant.errors import WorkflowFailed
from paigeant.runtime.characters import escaped
from paigeant.transport import Outgoing
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec, RoutingSlip

EVIL = "\x9b31mred\x1b[2J\u202eevil\u2066\u200b\u2028\ufeffend"
ODD = "w\u200bo\u202erk"
"""A name as an earlier release allowed it."""

Paigeant = Callable[..., Result]


@pytest.fixture
def paigeant(in_process: Callable[[str], Paigeant], tmp_path: Path) -> Paigeant:
    """Commands on a store with a failed workflow, one that asks, and one of an earlier release that waits."""
    url = f"sqlite:///{tmp_path / 'paigeant.db'}"
    run = in_process(url)
    asyncio.run(_fill(App("shop", url)))
    return run


async def _fill(app: App) -> None:
    def fail() -> None:
        raise ValueError(EVIL)

    app.activity(fail)
    worker, ready = Worker(app), asyncio.Event()
    serving = asyncio.ensure_future(worker.run(ready.set))
    await ready.wait()
    with suppress(WorkflowFailed):
        await (await app.dispatch("fail", id="failed", variables={EVIL: EVIL})).result(20)
    asking = await app.dispatch(await_approval(EVIL), id="asking")
    async for event in asking.events():
        if event.type == "step_parked":
            break
    worker.stop()
    await serving
    steps = (ActivitySpec(name=ODD, id=ODD), ActivitySpec(name=ODD))
    odd = PaigeantMessage(correlation_id=ODD, name=ODD, routing_slip=RoutingSlip(itinerary=steps))
    await app.dispatcher.beginning.introduce(odd, 1.0)
    await app.transport.declare(f"shop.{ODD}")
    await app.transport.send([Outgoing(queue=f"shop.{ODD}", body=odd.to_json(), id=odd.id)])
    await app.close()


COMMANDS = [
    ("events", "failed"),
    ("workflow", "failed"),
    ("workflow", ODD),
    ("events", ODD),
    ("workflows",),
    ("waiting",),
    ("approvals",),
    ("dlq", "list"),
    ("dlq", "show", "1"),
    ("queues",),
    ("status",),
    ("workers",),
    ("activities", "--announced"),
    ("doctor",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(map(ascii, words)))
def test_no_command_prints_a_hidden_character(paigeant: Paigeant, command: tuple[str, ...]) -> None:
    """Neither for people nor as JSON, on either stream."""
    for more in ((), ("--json",)):
        done = paigeant(*command, *more)
        assert escaped(done.output) == done.output


def test_events_as_json_say_the_same(paigeant: Paigeant) -> None:
    """A program reads from the escapes what the error was."""
    events = [json.loads(line) for line in paigeant("events", "failed", "--json").stdout.splitlines()]
    said = next(one["data"]["error"]["message"] for one in events if one["type"] == "workflow_failed")
    assert said.endswith("\u202eevil\u2066\u200b\u2028\ufeffend")


def test_commands_that_steer_print_none_either(paigeant: Paigeant) -> None:
    """They repeat ids and names."""
    for command in (("pause", ODD), ("resume", ODD), ("cancel", ODD)):
        done = paigeant(*command)
        assert r"w\u200bo\u202erk" in done.output
        assert escaped(done.output) == done.output


def test_activities_that_look_alike_are_named(in_process: Callable[[str], Paigeant], tmp_path: Path) -> None:
    """By ``activities`` and by ``doctor``, with their escapes."""
    source = 'from paigeant import App\n\napp = App("shop")\n'
    source += "".join(f'app.activity(name="{name}")(lambda: 1)\n' for name in ("pay", r"p\u0430y", "ship"))
    (tmp_path / "alike.py").write_text(source)
    run = in_process(f"sqlite:///{tmp_path / 'paigeant.db'}")
    for command in (("activities", "-A", "alike"), ("doctor", "-A", "alike")):
        done = run(*command)
        assert r"look alike: 'pay', 'pаy' ('p\u0430y')".encode() in done.output.encode()  # noqa: RUF001


@pytest.mark.parametrize(
    "command",
    [
        ("signal", "asking", "word", '{"a": 1, "a": 2}'),
        ("dlq", "edit", "1", "--input", '{"a": 1, "a": 2}'),
        ("fork", "failed", "--from", "fail", "--variables", '{"a": 1, "a": 2}'),
    ],
    ids=lambda words: words[0],
)
def test_json_that_readers_read_differently_is_refused(
    paigeant: Callable[..., Result], command: tuple[str, ...]
) -> None:
    """A person who looks at the first member would see another value than the workflow."""
    assert "'a' is there twice" in paigeant(*command, code=2).stderr

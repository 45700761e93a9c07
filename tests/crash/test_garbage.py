"""A bad message ends in a dead letter or goes back, with a reason; the worker serves the next one."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from crash.fleet import Fleet
from helpers import until

from paigeant import ActivitySpec, PaigeantMessage, RoutingSlip
from paigeant.decisions.plan import Send
from paigeant.transport import Outgoing

QUEUE = "crash.first"
NUL, LONE_SURROGATE = "\\u0000", "\\ud800"


def written(**changes: Any) -> bytes:
    """A good message for ``first``, with changes nobody made with paigeant."""
    slip = RoutingSlip(itinerary=(ActivitySpec(name="first", queue=QUEUE),))
    message = PaigeantMessage(correlation_id="garbage", routing_slip=slip).to_dict()
    del message["id"]
    return json.dumps(message | changes).encode()


def with_step(**changes: Any) -> bytes:
    return written(routing_slip={"itinerary": [{"name": "first", "id": "1"} | changes]})


SET_ASIDE = {
    "no text": (b"\xff\xfe\x00\x01", "MalformedMessage"),
    "nothing": (b"", "MalformedMessage"),
    "no JSON": (b"hello?", "MalformedMessage"),
    "a list": (b"[1, 2, 3]", "MalformedMessage"),
    "null": (b"null", "MalformedMessage"),
    "an empty object": (b"{}", "MalformedMessage"),
    "nested without end": (b"[" * 100_000, "MalformedMessage"),
    "a pickle": (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.", "MalformedMessage"),
    "no version": (written(spec_version=""), "MalformedMessage"),
    "a version that is no version": (written(spec_version="new"), "MalformedMessage"),
    "a newer major version": (written(spec_version="9.1"), "UnsupportedVersion"),
    "a newer version of another shape": (b'{"spec_version": "2.0", "steps": []}', "UnsupportedVersion"),
    "too large": (written(routing_slip={"variables": {"x": "y" * 2_000_000}}), "MessageTooLarge"),
    "no step": (written(routing_slip={"itinerary": []}), "MalformedMessage"),
    "an id of another message": (written(id="0" * 32), "MalformedMessage"),
    "a step without a name": (with_step(name=""), "MalformedMessage"),
    "attempt 0": (written(attempt=0), "MalformedMessage"),
    "an attempt no database can hold": (written(attempt=10**30), "MalformedMessage"),
    "a digest of digits": (written(attempt=1).replace(b'"garbage"', b"1" * 5000), "MalformedMessage"),
    "NUL in the correlation id": (
        written(correlation_id="x").replace(b'"x"', f'"a{NUL}"'.encode()),
        "MalformedMessage",
    ),
    "a lone surrogate": (
        written(correlation_id="x").replace(b'"x"', f'"{LONE_SURROGATE}"'.encode()),
        "MalformedMessage",
    ),
    "NUL in the step's id": (with_step(id="a\0b"), "MalformedMessage"),
    "NUL in the step's name": (with_step(name="first\0"), "MalformedMessage"),
    "NUL in a queue": (with_step(queue="crash.first\0"), "MalformedMessage"),
    "NUL in the reason": (written(trace_context={"a\0b": 5}), "MalformedMessage"),
    "endless times": (with_step(timeout=-1), "MalformedMessage"),
    "two steps of one id": (
        written(routing_slip={"itinerary": [{"name": "first", "id": "1"}, {"name": "second", "id": "1"}]}),
        "MalformedMessage",
    ),
}


def put(fleet: Fleet, *bodies: bytes, queue: str = QUEUE) -> None:
    asyncio.run(fleet.app.transport.send([Outgoing(queue=queue, body=body) for body in bodies]))


def test_what_cannot_be_read_is_set_aside_with_a_reason(fleet: Fleet) -> None:
    """Each of these is kept, byte for byte, and the worker goes on."""
    worker = fleet.start().ready()
    put(fleet, *(body for body, _ in SET_ASIDE.values()))
    until(lambda: fleet.facts.one("SELECT count(*) FROM paigeant_dead_letter") >= len(SET_ASIDE), 15)
    (good,) = fleet.dispatch("first", "second")
    fleet.ended(good)

    letters = {bytes(row.body): row.reason for row in fleet.facts.rows("SELECT body, reason FROM paigeant_dead_letter")}
    reasons = {name: letters.get(body, "") for name, (body, _) in SET_ASIDE.items()}
    wrong = {name: reason for name, reason in reasons.items() if not reason.startswith(SET_ASIDE[name][1])}
    assert wrong == {}
    assert fleet.status(good) == "completed"
    fleet.facts.assert_nothing_waits()
    worker.stop()
    assert "Traceback" not in worker.log


ENDS_AS_FAILED: dict[str, dict[str, Any]] = {
    "an argument the activity does not take": {"seconds": 0.0, "colour": "red"},
    "a value of the wrong type": {"seconds": "soon"},
    "a class to import": {"seconds": {"__type__": "evil:Class", "__class__": "evil.Class", "py/object": "evil.Class"}},
    "NUL in a value": {"seconds": "\0"},
}


@pytest.fixture
def watched(fleet: Fleet) -> Path:
    """A file that comes into being if a worker imports the module ``evil``."""
    imported: Path = fleet.folder / "imported"
    (fleet.folder / "evil.py").write_text(f"open({str(imported)!r}, 'w')\nclass Class: ...\n")
    paths = [str(fleet.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    fleet.settings = {"PYTHONPATH": os.pathsep.join(paths)}
    return imported


async def begun(fleet: Fleet, arguments: Mapping[str, Any], **changes: Any) -> str:
    """Begin a workflow of the step ``first`` with arguments that no dispatch would accept; its id."""
    slip = RoutingSlip(itinerary=(ActivitySpec(name="first", queue=QUEUE, arguments=arguments),))
    message = PaigeantMessage(routing_slip=slip, **changes)
    dispatcher = fleet.app.dispatcher
    await dispatcher.beginning.start(dispatcher.packing.begun(Send(message), 1.0))
    return message.correlation_id


def test_arguments_that_do_not_fit_fail_the_workflow_and_import_nothing(fleet: Fleet, watched: Path) -> None:
    """The sender is told by the workflow's end; no class comes into being because a message names one."""
    worker = fleet.start().ready()

    async def send() -> dict[str, str]:
        return {name: await begun(fleet, arguments) for name, arguments in ENDS_AS_FAILED.items()}

    sent = asyncio.run(send())
    fleet.ended(*sent.values())

    assert {name: fleet.status(workflow) for name, workflow in sent.items()} == dict.fromkeys(sent, "failed")
    assert not watched.exists()
    fleet.facts.assert_nothing_waits()
    worker.stop()


def test_a_token_that_is_no_token_is_set_aside_and_imports_nothing(fleet: Fleet, watched: Path) -> None:
    """The message is not trusted, so it becomes a dead letter and its workflow is left as it is."""
    worker = fleet.start().ready()
    stolen: dict[str, Any] = {"obo_token": "evil:Class", "principal": {"__type__": "evil:Class"}}
    workflow = asyncio.run(begun(fleet, {"seconds": 0.0}, **stolen))
    until(lambda: fleet.facts.rows("SELECT kind, code FROM paigeant_dead_letter") == [("untrusted", "token")])

    assert fleet.status(workflow) == "running"
    assert not watched.exists()
    fleet.facts.assert_nothing_waits()
    worker.stop()


@pytest.mark.parametrize("activity", ["third", "evil:Class"])
def test_a_step_of_another_worker_goes_back_unharmed(fleet: Fleet, activity: str) -> None:
    """Unknown here, or in the wrong queue: a warning, no dead letter, no count, and the next message is served."""
    worker = fleet.start(ONLY="first,second").ready()
    (lost,) = fleet.dispatch(ActivitySpec(name=activity, queue=QUEUE))
    until(lambda: "returned to its queue" in worker.log)
    (good,) = fleet.dispatch("first", "second")
    fleet.ended(good)

    assert activity in worker.log
    until(lambda: fleet.facts.rows("SELECT deliveries, owner FROM paigeant_message") == [(0, None)])
    assert fleet.facts.one("SELECT count(*) FROM paigeant_dead_letter") == 0
    assert fleet.status(lost) == "running"
    worker.stop()

"""Workflows that programs begin and serve which know of nothing but the wire format."""

from __future__ import annotations

import json

import pytest
from helpers import until_async

from paigeant import ActivityContext, App, PaigeantMessage, RetryPolicy, RoutingSlip, Workflow
from paigeant.transport import Outgoing
from paigeant.wire.slip import ActivitySpec

pytestmark = pytest.mark.anyio

SOON = 30


@pytest.fixture(params=["joined", "apart"])
def app(request, make_app, tmp_path):
    store = f"sqlite:///{tmp_path / 'store.db'}"
    return make_app(store if request.param == "joined" else f"sqlite:///{tmp_path / 'broker.db'}", store)


async def publish(app: App, slip: dict, **fields: object) -> None:
    """As another program does it: the required fields only, and the id as a header."""
    queue = slip["itinerary"][0]["queue"]
    body = {"spec_version": "1.2", "correlation_id": "by-hand", "routing_slip": slip, **fields}
    steps = [ActivitySpec(**step) for step in slip["itinerary"]]
    identity = PaigeantMessage(correlation_id="by-hand", routing_slip=RoutingSlip(itinerary=steps)).id
    await app.transport.send([Outgoing(queue=queue, body=json.dumps(body).encode(), id=identity)])


def step(app: App, name: str, number: str, queue: str | None = None, **arguments: object) -> dict:
    return {"id": number, "name": name, "queue": f"{app.prefix}.{queue or name}", "arguments": arguments}


async def test_a_workflow_that_another_program_began_is_known_from_its_first_step_on(app, running):
    """Its result, its steps and its plan; and it can be forked."""

    @app.activity
    def double(n: int) -> int:
        return 2 * n

    @app.activity
    def add(before: int, m: int) -> int:
        return before + m

    async with running(app):
        await publish(app, {"itinerary": [step(app, "double", "1", n=7), step(app, "add", "2", m=1)]})
        await until_async(lambda: app.store.brief("by-hand"))
        workflow = app.workflow("by-hand")
        assert await workflow.result(SOON) == 15
        fork = await workflow.fork("add", arguments={"m": 5})
        assert await fork.result(SOON) == 19
        record = await workflow.record()
    assert (record.app, record.status) == (app.name, "completed")
    assert [(one.activity, one.status) for one in record.steps] == [("double", "completed"), ("add", "completed")]


async def test_a_workflow_of_an_app_without_a_store_is_known_to_workers_with_one(app, make_app, running):
    """The worker records what the one who dispatched could not."""

    @app.activity
    def double(n: int) -> int:
        return 2 * n

    caller = make_app(app.transport.url, None, queue_prefix=app.prefix)
    sent = await caller.dispatch(double.step(n=4), variables={"v": 1})
    async with running(app):
        await until_async(lambda: app.store.brief(sent.correlation_id))
        workflow = app.workflow(sent.correlation_id)
        assert await workflow.result(SOON) == 8
        assert (await workflow.record()).variables == {"v": 1}


async def test_what_another_program_did_in_the_middle_is_recorded(app, running):
    """With the output, and with what it changed of the variables; once, however many steps follow."""

    @app.activity
    def double(n: int) -> int:
        return 2 * n

    @app.activity
    def add(before: int, m: int) -> int:
        return before + m

    async with running(app):
        steps = [double.step(n=7), ActivitySpec(name="elsewhere"), add.step(m=1), add.step(m=2)]
        workflow = await app.dispatch(*steps, variables={"v": 1})
        message = await taken(app, "elsewhere")
        slip = message["routing_slip"]
        done = slip["itinerary"].pop(0)
        slip["log"].append({"id": done["id"], "name": done["name"], "output": 100})
        slip["variables"] = {"v": 2}
        await passed_on(app, message)
        assert await workflow.result(SOON) == 103
        record, course = await workflow.record(), await app.store.course(workflow.correlation_id)
        fork = await workflow.fork("3")
        assert await fork.result(SOON) == 103
    assert [(one.activity, one.status, one.output) for one in record.steps] == [
        ("double", "completed", 14),
        ("elsewhere", "completed", 100),
        ("add", "completed", 101),
        ("add", "completed", 103),
    ]
    assert record.steps[1].worker == "another program"
    assert (record.variables, len(course.done)) == ({"v": 2}, 4)


async def test_another_program_ends_a_workflow(app, running):
    """It puts a step behind its own that every worker runs."""

    @app.activity
    def double(n: int) -> int:
        return 2 * n

    async with running(app):
        workflow = await app.dispatch(double.step(n=7), "elsewhere")
        message = await taken(app, "elsewhere")
        slip = message["routing_slip"]
        done = slip["itinerary"].pop(0)
        slip["log"].append({"id": done["id"], "name": done["name"], "output": {"x": 1}, "worker": "node"})
        slip["itinerary"] = [{"id": "end", "name": "paigeant.end"}]
        await passed_on(app, message, queue="paigeant")
        assert await workflow.result(SOON) == {"x": 1}
        record = await workflow.record()
    assert [(one.activity, one.status, one.worker == "node") for one in record.steps[1:]] == [
        ("elsewhere", "completed", True),
        ("paigeant.end", "completed", False),
    ]


async def taken(app: App, queue: str) -> dict:
    """The message that waits in a queue that no worker of ours serves."""
    async for batch in app.transport.consume([f"{app.prefix}.{queue}"], 1):
        await app.transport.settle(batch[0])
        return json.loads(batch[0].body)
    raise AssertionError("no message")


async def passed_on(app: App, message: dict, queue: str | None = None, keeps_cause: bool = False) -> None:
    """The next message: its id is left out, so that the worker derives it."""
    left_out = ("id",) if keeps_cause else ("id", "causation_id")
    message = {name: value for name, value in message.items() if name not in left_out}
    made = PaigeantMessage.from_dict(message)
    target = f"{app.prefix}.{queue}" if queue else message["routing_slip"]["itinerary"][0]["queue"]
    await app.transport.send([Outgoing(queue=target, body=json.dumps(message).encode(), id=made.id)])


async def test_a_workflow_is_known_that_another_program_began_and_served_first(app, running):
    """Its second message names the one before it, and times that make no sense change nothing."""

    @app.activity
    def add(before: int, m: int) -> int:
        return before + m

    entry = {"id": "1", "name": "elsewhere", "output": 4, "finished_at": "0001-01-01T00:00:00", "worker": "node"}
    slip = {"itinerary": [step(app, "add", "2", m=1)], "log": [entry | {"started_at": "9999-12-31T00:00:00Z"}]}
    message = {"spec_version": "1.2", "correlation_id": "by-hand", "routing_slip": slip, "causation_id": "theirs"}
    async with running(app):
        await passed_on(app, message, keeps_cause=True)
        await until_async(lambda: app.store.brief("by-hand"))
        assert await app.workflow("by-hand").result(SOON) == 5
        record = await app.workflow("by-hand").record()
    assert [(one.id, one.status, one.worker == "node") for one in record.steps] == [
        ("1", "completed", True),
        ("2", "completed", False),
    ]


async def test_a_log_entry_that_no_store_could_take_is_refused_alone(app, running):
    """What came with it goes on."""

    @app.activity
    def add(before: int, m: int) -> int:
        return before + m

    entry = {"id": "1", "name": "elsewhere", "output": 4}
    async with running(app):
        for name, attempt in (("odd", 10**19), ("fine", 1)):
            slip = {"itinerary": [step(app, "add", "2", m=1)], "log": [entry | {"attempt": attempt}]}
            body = json.dumps({"spec_version": "1.2", "correlation_id": name, "routing_slip": slip})
            slip["log"] = []
            made = PaigeantMessage.from_dict({"spec_version": "1.2", "correlation_id": name, "routing_slip": slip})
            await app.transport.send([Outgoing(queue=slip["itinerary"][0]["queue"], body=body.encode(), id=made.id)])
        await until_async(lambda: app.store.brief("fine"))
        assert await app.workflow("fine").result(SOON) == 5
        (letter,) = await until_async(app.store.dead_letters)
    assert (letter.kind.value, "attempt" in letter.reason) == ("unreadable", True)


async def test_what_another_program_did_in_the_place_of_a_failed_attempt_is_kept(app, running):
    """It has a row of its own, though it says nothing of which attempt it was."""

    @app.activity(retry=RetryPolicy(attempts=2, delay=3600))
    def flaky() -> None:
        raise ConnectionError("down")

    @app.activity
    def look(before: str) -> str:
        return before

    async with running(app):
        workflow = await app.dispatch(flaky, look)
        await until_async(lambda: _has_step(workflow, "retried"))
        slip = {"itinerary": [step(app, "look", "2")], "log": [{"id": "1", "name": "flaky", "output": "theirs"}]}
        await passed_on(app, {"spec_version": "1.2", "correlation_id": workflow.correlation_id, "routing_slip": slip})
        assert await workflow.result(SOON) == "theirs"
        record = await workflow.record()
    assert [(one.status, one.output) for one in record.steps] == [
        ("retried", None),
        ("completed", "theirs"),
        ("completed", "theirs"),
    ]


async def _has_step(workflow: Workflow, status: str) -> bool:
    return any(one.status == status for one in (await workflow.record()).steps)


async def test_our_own_steps_are_not_taken_for_those_of_others(app, running):
    """However little a large message says of them: in a fork, and behind a scatter with compensations."""

    @app.activity
    def one(n: int) -> int:
        return n + 1

    @one.compensate
    def undo(n: int) -> None: ...

    @app.activity
    def spread(ctx: ActivityContext) -> int:
        return len(ctx.scatter(one.step(n=1), one.step(n=2)))

    async with running(app):
        large = {name: name * 40_000 for name in "abc"}
        workflow = await app.dispatch(one.step(n=1), spread, one, one, variables=large)
        assert await workflow.result(SOON) == 4
        fork = await workflow.fork("3")
        assert await fork.result(SOON) == 4
        records = [await each.record() for each in (workflow, fork)]
    assert [len(record.steps) for record in records] == [5, 2]  # one has waited
    assert not [step for record in records for step in record.steps if step.worker == "another program"]

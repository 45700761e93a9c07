"""What cannot be settled goes back with growing pauses, and ends as a dead letter with its true reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from helpers import until_async

from paigeant import App
from paigeant.errors import StoreError, StoreRefused, TransportError, WorkflowFailed
from paigeant.runner import returns
from paigeant.transport import Delivery, Outgoing

pytestmark = pytest.mark.anyio

SOON = 20
REASON = "PRECONDITION_FAILED - inequivalent arg 'x-max-length'"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returns, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(returns.pause_after, "__defaults__", (0.02, 60.0))
    monkeypatch.setattr(returns, "LONGEST_PAUSE", 0.3)


@pytest.fixture(params=["joined", "apart"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Path) -> App:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    return make_app(store if request.param == "joined" else f"sqlite:///{tmp_path / 'broker.db'}", store)


def refusing(app: App, monkeypatch: pytest.MonkeyPatch, queue: str) -> list[float]:
    """Have the broker refuse what is for this queue; when it was asked."""
    settle, asked = app.transport.settle, list[float]()

    async def refuses(delivery: Delivery, outgoing: Sequence[Outgoing] = (), record: Sequence[Any] = ()) -> None:
        if any(one.queue == queue for one in outgoing):
            asked.append(time.monotonic())
            raise TransportError(REASON)
        await settle(delivery, outgoing, record)

    monkeypatch.setattr(app.transport, "settle", refuses)
    return asked


async def test_a_step_whose_successor_is_refused_ends_as_a_dead_letter_with_the_reason(app, running, monkeypatch):
    """Its pauses grow, its body is not run again where it is recorded, and a step beside it does not notice."""
    ran = []

    @app.activity
    async def first() -> None:
        ran.append(1)

    @app.activity
    async def second() -> None: ...

    @app.activity
    async def beside() -> str:
        return "undisturbed"

    asked = refusing(app, monkeypatch, app.queue_of(second))
    async with running(app):
        workflow = await app.dispatch(first, second)
        assert await (await app.dispatch(beside)).result(SOON) == "undisturbed"

        async def letters() -> Sequence[Any]:
            return await app.store.dead_letters()

        (letter,) = await until_async(letters, SOON)
    assert REASON in letter.reason
    assert letter.correlation_id == workflow.correlation_id
    assert len(asked) <= returns.MOST_FAULTS + 2
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert pauses[5] > pauses[0]
    joined = app.dispatcher.joined
    assert len(ran) == (returns.MOST_FAULTS if joined else 1)
    assert (await workflow.status()) == ("failed" if joined else "running")


async def test_an_output_that_the_store_refuses_fails_the_step_at_once(app, running, monkeypatch):
    """It would be refused again: the body runs once."""
    ran = []

    @app.activity
    async def step() -> str:
        ran.append(1)
        return "€"

    def unless_refused(call: Callable[..., Any]) -> Callable[..., Any]:
        async def called(*given: Any, **options: Any) -> Any:
            if "'€'" in repr([given, options]):
                raise StoreRefused("character not in repertoire")
            return await call(*given, **options)

        return called

    monkeypatch.setattr(app.transport, "settle", unless_refused(app.transport.settle))
    monkeypatch.setattr(app.store, "record", unless_refused(app.store.record))
    async with running(app):
        workflow = await app.dispatch(step)
        with pytest.raises(WorkflowFailed, match="not in repertoire"):
            await workflow.result(SOON)
    assert len(ran) == 1


async def test_an_outage_of_the_store_is_waited_for_and_counts_for_nothing(app, running, monkeypatch, caplog):
    """However often the store is asked: the message stays where it is, and the log has one line for the outage."""
    monkeypatch.setattr("paigeant.runtime.patience.SHORTEST_PAUSE", 0.001)
    monkeypatch.setattr("paigeant.runtime.patience.LONGEST_PAUSE", 0.002)
    standing, tries = app.store.standing, [0]

    async def away(*given: Any) -> Any:
        tries[0] += 1
        if tries[0] < 100:
            raise StoreError("connection refused")
        return await standing(*given)

    @app.activity
    async def step() -> str:
        return "done"

    monkeypatch.setattr(app.store, "standing", away)
    async with running(app):
        assert await (await app.dispatch(step)).result(SOON) == "done"
        assert await app.store.dead_letters() == []
    assert tries[0] >= 100
    told = [one for one in caplog.records if "could not use the store" in one.getMessage() and one.levelname != "DEBUG"]
    assert len(told) == 1

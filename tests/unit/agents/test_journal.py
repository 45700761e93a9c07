"""The journal of a running agent step, with a store that fails as it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from unit.builders import message

from paigeant import ActivityContext
from paigeant.agents.journal import Journal, Stopped, digest
from paigeant.context.services import Services
from paigeant.context.state import StepState
from paigeant.decisions.interrupts import Retry
from paigeant.errors import JournalMismatch, MessageTooLarge, StoreError, StoreRefused, Superseded
from paigeant.records.journal import Turn, Unit
from paigeant.transport import Delivery
from paigeant.wire.usage import Usage

pytestmark = pytest.mark.anyio


class FakeStore:
    """Keeps units; raises the errors it is given first, and says no when it is told so."""

    def __init__(self, *errors: Exception, units: Sequence[Unit] = (), later: bool = False) -> None:
        self.errors, self.units, self.later = list(errors), list(units), later

    def _fail(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    async def take_journal(self, turn: Turn) -> Sequence[Unit] | None:
        self._fail()
        return None if self.later else self.units

    async def write_unit(self, turn: Turn, unit: Unit) -> bool:
        self._fail()
        if not self.later:
            self.units.append(unit)
        return not self.later


def running(store: Any, *, lost: bool = False, stop: Any = None) -> ActivityContext:
    delivery = Delivery(queue="q", body=b"", tag=1, deliveries=2)
    delivery.lease.lost = lost
    return ActivityContext(StepState.of(message("write"), delivery), Services(store=store, worker="w", stop=stop))


def unit(key: str, **fields: Any) -> Unit:
    return Unit(**{"key": key, "name": "model", "digest": "d", "value": 1, "usage": Usage(requests=1)} | fields)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paigeant.runtime.patience.SHORTEST_PAUSE", 0)


async def test_an_outage_of_the_store_is_waited_out():
    """At the beginning, and for each unit: a finished request was paid for."""
    away = [StoreError("away") for _ in range(2)]
    store = FakeStore(*away)
    journal = await Journal.open(running(store))
    store.errors = [*away]
    await journal.add(unit("model:1"))
    assert [one.key for one in store.units] == ["model:1"]


async def test_what_the_store_refuses_is_not_offered_again():
    """It would be refused again."""
    journal = await Journal.open(running(FakeStore()))
    journal.store.errors = [StoreRefused("no")]
    with pytest.raises(StoreRefused):
        await journal.add(unit("model:1"))


@pytest.mark.parametrize(("lost", "raised"), [(True, Superseded), (False, Retry)])
async def test_a_run_that_comes_too_late_gives_way(lost, raised):
    """Without its lease for good; with it, the next attempt comes last."""
    with pytest.raises(raised):
        await Journal.open(running(FakeStore(later=True), lost=lost))
    store = FakeStore()
    journal = await Journal.open(running(store, lost=lost))
    store.later = True
    with pytest.raises(raised):
        await journal.add(unit("model:1"))
    with pytest.raises(raised):
        await journal.forget("model:1")
    assert store.units == []


async def test_a_run_that_has_lost_its_lease_does_not_wait_for_the_store():
    """Another one has the step."""
    journal = await Journal.open(running(FakeStore(), lost=True))
    journal.store.errors = [StoreError("away")] * 99
    with pytest.raises(Superseded):
        await journal.add(unit("model:1"))


async def test_what_was_used_before_counts_and_only_the_present_journal_is_replayed():
    """Units of a journal that was begun anew are paid for, and forgotten."""
    store = FakeStore(units=[unit("model:1", current=False), unit("model:1", value=2), unit("tool:1:a", name="look")])
    context = running(store)
    journal = await Journal.open(context)
    assert journal.spent.requests == context.used.requests == 3
    assert journal.find("model:1", "model", "d").value == 2
    assert journal.find("model:2", "model", "d") is None
    with pytest.raises(JournalMismatch, match=r"unit 'tool:1:a' was 'look', and is 'listen' now"):
        journal.find("tool:1:a", "listen", "d")
    with pytest.raises(JournalMismatch, match="was 'look', asked something else"):
        journal.find("tool:1:a", "look", "other")


async def test_a_unit_that_is_forgotten_is_written_in_another_place():
    """As often as that happens; what it used stays counted."""
    store = FakeStore()
    journal = await Journal.open(running(store))
    for place in ("model:1", "model:1~", "model:1~~"):
        assert journal.place_of("model:1") == place
        await journal.add(unit(place))
        await journal.forget(place)
    assert journal.find(journal.place_of("model:1"), "model", "d") is None
    assert journal.spent.requests == 3
    again = await Journal.open(running(FakeStore(units=store.units)))
    assert again.place_of("model:1") == "model:1~~~"


async def test_nothing_begins_once_the_workflow_is_cancelled():
    """Between two units the run ends."""
    stop = SimpleNamespace(cancellation=None)
    journal = await Journal.open(running(FakeStore(), stop=stop))
    with journal.doing(requests=1):
        stop.cancellation = object()
    with pytest.raises(Stopped), journal.doing(requests=1):
        pytest.fail("a unit began")


async def test_without_a_store_nothing_is_kept():
    """What was used is known all the same."""
    context = running(None)
    journal = await Journal.open(context)
    await journal.add(unit("model:1"))
    await journal.forget("model:1")
    assert context.used.requests == 1
    assert journal.find("model:1", "model", "d") is None


def test_a_digest_takes_whatever_an_argument_may_be():
    """The same for the same, whatever lies where in memory."""
    assert digest([object(), {"a": float("nan")}]) == digest([object(), {"a": float("nan")}])
    assert digest(["a"]) != digest(["b"])


async def test_a_unit_that_is_too_large_is_not_recorded():
    """It was paid for, so its usage is; the step ends with an error that names the unit and its size."""
    store = FakeStore(units=[])
    context = running(store)
    context.services = replace(context.services, value_limit=1000)
    journal = await Journal.open(context)
    with pytest.raises(MessageTooLarge, match="the result of 'fetch' is 2,002 bytes, the limit for a value 1,000"):
        await journal.add(unit("tool:1", name="fetch", value="x" * 2000))
    [written] = store.units
    assert (written.value, written.usage) == (None, Usage(requests=1))
    assert journal.find("tool:1", "fetch", "d") is None

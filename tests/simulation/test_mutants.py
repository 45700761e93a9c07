"""The tests of the tests: each way to break the protocol is found out, by the promise that it breaks."""

from __future__ import annotations

import random
from typing import Any

import pytest

from paigeant import sleep
from paigeant.dispatch import Dispatcher
from paigeant.errors import StoreError
from paigeant.events import ErrorInfo
from paigeant.message import PaigeantMessage
from paigeant.outcome import Faulted
from paigeant.records import Standing
from paigeant.runner import Runner
from paigeant.runner.attempt import Attempts
from paigeant.testing import Fault, FaultPlan, SimulationFailed, simulate
from paigeant.testing.broker import SimulatedBroker
from paigeant.timers import Timers, _resumed
from paigeant.worker import worker

APART = ("fenced", "at_least_once")


@pytest.fixture
def broken(app, steps):
    """Simulate until a promise is broken; what is said about it."""

    def simulated(**options: Any) -> str:
        with pytest.raises(SimulationFailed) as failure:
            simulate(app, steps["double"].step(x=1), sleep(60), steps["increase"], **options)
        return "\n".join(failure.value.problems)

    return simulated


@pytest.mark.parametrize("tier", APART)
def test_acknowledge_first(broken, monkeypatch, tier):
    async def settle(self, delivery, outgoing, record, cause):
        await self.transport.settle(delivery)
        await self.store.record(record, outgoing, cause)
        await self.transport.send(outgoing)
        return True

    monkeypatch.setattr(Dispatcher, "_settle", settle)
    assert "acknowledged before its end was recorded" in broken(tiers=[tier])


@pytest.mark.parametrize("tier", ["atomic", "fenced"])
def test_no_fence(broken, monkeypatch, tier):
    def owned(self, holder, delivery):
        return next((one for one in self._kept if one.number == delivery.tag), None)

    monkeypatch.setattr(SimulatedBroker, "owned", owned)
    expired = FaultPlan(faults=(Fault("expire", "settle"),))
    assert "G3" in broken(tiers=[tier], plans=[expired])


def test_random_ids(broken, monkeypatch):
    def following(self, slip):
        return self._following(routing_slip=slip, attempt=1, resumes=0, received={}, epoch=random.getrandbits(30))

    monkeypatch.setattr(PaigeantMessage, "next", following)
    slow = FaultPlan(faults=(Fault("expire", "invoke"),))
    assert "two sets of successors" in broken(plans=[slow])


@pytest.mark.parametrize("tier", ["atomic", "fenced", "at_least_once"])
def test_nobody_asks_what_is_done(broken, monkeypatch, tier):
    async def standing(self, message):
        return Standing()

    monkeypatch.setattr(Dispatcher, "standing", standing)
    assert "G5" in broken(tiers=[tier], duplicate="every_delivery", plans=[FaultPlan(seed) for seed in range(5)])


@pytest.mark.parametrize("tier", APART)
def test_what_followed_is_not_sent_again(broken, monkeypatch, tier):
    original = Dispatcher.standing

    async def standing(self, message):
        found = await original(self, message)
        return Standing(status=found.status, done=None if found.done is None else ())

    monkeypatch.setattr(Dispatcher, "standing", standing)
    assert "acknowledged before" in broken(tiers=[tier], crash_at="record")


@pytest.mark.parametrize("tier", APART)
def test_nothing_is_kept_of_what_follows(broken, monkeypatch, tier):
    async def settle(self, delivery, outgoing, record, cause):
        first = await self.store.record(record, (), cause)
        await self.transport.settle(delivery, outgoing if first else ())
        return first

    monkeypatch.setattr(Dispatcher, "_settle", settle)
    assert "G1" in broken(tiers=[tier], crash_at="record")


@pytest.mark.parametrize("tier", APART)
def test_an_end_is_recorded_in_one_try(broken, monkeypatch, tier):
    async def once(self, write):
        return await write()

    monkeypatch.setattr(Dispatcher, "_patiently", once)
    outage = FaultPlan(faults=(Fault("outage", "record"),))
    assert "G2" in broken(tiers=[tier], plans=[outage])


def test_trouble_with_the_store_fails_the_step(broken, monkeypatch):
    original = Attempts._ran

    async def ran(self, activity, run, stop, progress):
        try:
            await self.dispatcher.store.standing(run.message.id, run.message.correlation_id)
        except StoreError as error:
            return Faulted(run.execution(), info(error))
        return await original(self, activity, run, stop, progress)

    monkeypatch.setattr(Attempts, "_ran", ran)
    outage = FaultPlan(faults=(Fault("lose", "look", nth=2),))
    assert "G4: trouble with broker or store became the failure of a step: StoreError" in broken(plans=[outage])


def info(error: Exception) -> ErrorInfo:
    return ErrorInfo(type=type(error).__name__, message=str(error))


def test_a_redelivery_is_taken_for_a_failure(broken, monkeypatch):
    original = Attempts._ran

    async def ran(self, activity, run, stop, progress):
        if run.delivery.deliveries > 1:
            return Faulted(run.execution(), info(ValueError("again")))
        return await original(self, activity, run, stop, progress)

    monkeypatch.setattr(Attempts, "_ran", ran)
    assert "is failed; without faults it is completed" in broken(crash_at="invoke")


def test_poison_goes_round_for_ever(broken, monkeypatch):
    monkeypatch.setattr(worker, "Runner", lambda **given: Runner(**given | {"max_deliveries": 1_000_000}))
    poison = FaultPlan(faults=(Fault("crash", "invoke", nth=None, of="increase", after=True),))
    assert "G2: message" in broken(tiers=["at_least_once"], plans=[poison], limit=20)


def test_what_waits_is_forgotten_before_it_is_sent(broken, monkeypatch):
    async def send(self, held):
        if held:
            await self.dispatcher.note([_resumed(one, self.clock.now()) for one in held])
            await self.dispatcher.transport.send([self._outgoing(one, self.clock.now()) for one in held])
        return len(held)

    monkeypatch.setattr(Timers, "send", send)
    assert "G1: workflow workflow-1 was dispatched and never ended" in broken(crash_at="note")

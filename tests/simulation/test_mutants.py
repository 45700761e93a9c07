"""The tests of the tests: each way to break the protocol is found out, by the promise that it breaks."""

from __future__ import annotations

import random
from typing import Any

import pytest

from paigeant import sleep
from paigeant.decisions.outcome import Faulted
from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.dispatch.reading import Reading
from paigeant.dispatch.settling import Settling
from paigeant.dispatch.timers import Timers, _resumed
from paigeant.errors import StoreError
from paigeant.events import ErrorInfo
from paigeant.records.workflow import Standing
from paigeant.runner.attempt import Attempts
from paigeant.stores.history import SqlLedger
from paigeant.testing import Fault, FaultPlan, SimulationFailed, simulate
from paigeant.testing.broker import SimulatedBroker, SimulatedTransport
from paigeant.wire.message import PaigeantMessage
from paigeant.worker import trials
from paigeant.worker.suspects import Limits, Look, Trial
from paigeant.worker.trials import Trials

INNOCENT = FaultPlan(faults=tuple(Fault("crash", "claim", nth=nth, after=True) for nth in (1, 2, 4, 7, 10, 13)))
"""Its worker dies three times with a suspect in hand that has not begun."""

LOST = FaultPlan(faults=tuple(Fault("expire", "invoke", nth=nth, of="increase", after=True) for nth in range(1, 6)))
APART = ("fenced", "at_least_once")


@pytest.fixture
def broken(app, steps):
    """Simulate until a promise is broken; what is said about it."""

    def simulated(**options: Any) -> str:
        with pytest.raises(SimulationFailed) as failure:
            simulate(app, steps["double"].step(x=1), sleep(60), steps["increase"], **options)
        return "\n".join(failure.value.problems)

    return simulated


@pytest.mark.parametrize("duplicate", [None, "every_delivery"])
@pytest.mark.parametrize("tier", APART)
def test_acknowledge_first(broken, monkeypatch, tier, duplicate):
    async def settle(self, delivery, outgoing, record, cause):
        await self.posting.transport.settle(delivery)
        await self.posting.store.record(record, outgoing, cause)
        await self.posting.transport.send(outgoing)
        return True

    monkeypatch.setattr(Settling, "_settle", settle)
    assert "acknowledged before its end was recorded" in broken(tiers=[tier], duplicate=duplicate)


@pytest.mark.parametrize("tier", ["atomic", "fenced"])
def test_no_fence(broken, monkeypatch, tier):
    def owned(self, holder, delivery):
        return next((one for one in self._queued if one.number == delivery.tag), None)

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

    monkeypatch.setattr(Reading, "standing", standing)
    assert "G5" in broken(tiers=[tier], duplicate="every_delivery", plans=[FaultPlan(seed) for seed in range(5)])


@pytest.mark.parametrize("tier", APART)
def test_what_followed_is_not_sent_again(broken, monkeypatch, tier):
    original = Reading.standing

    async def standing(self, message):
        found = await original(self, message)
        return Standing(status=found.status, done=None if found.done is None else ())

    monkeypatch.setattr(Reading, "standing", standing)
    assert "acknowledged before" in broken(tiers=[tier], crash_at="record")


@pytest.mark.parametrize("tier", APART)
def test_nothing_is_kept_of_what_follows(broken, monkeypatch, tier):
    async def settle(self, delivery, outgoing, record, cause):
        first = await self.posting.store.record(record, (), cause)
        await self.posting.transport.settle(delivery, outgoing if first else ())
        return first

    monkeypatch.setattr(Settling, "_settle", settle)
    # A step that is recorded as completed and that nothing follows runs again, so that its workflow goes on.
    assert "G5: worker-2.1 ran step 1 of workflow-1 again" in broken(tiers=[tier], crash_at="record")


@pytest.mark.parametrize("tier", APART)
def test_an_end_is_recorded_in_one_try(broken, monkeypatch, tier):
    async def once(self, write):
        return await write()

    monkeypatch.setattr(Dispatcher, "patiently", once)
    outage = FaultPlan(faults=(Fault("outage", "record"),))
    assert "G2" in broken(tiers=[tier], plans=[outage])


DOUBT = FaultPlan(faults=(Fault("expire", "record", 1), Fault("lose", "record", 1), Fault("lose", "record", 2)))
"""A worker loses its lease and two answers of the store, while another worker runs the step."""


@pytest.mark.parametrize("tier", APART)
def test_a_refusal_after_a_lost_answer_is_ignored(broken, monkeypatch, tier):
    original = Dispatcher.patiently

    async def patiently(self, ask):
        answers: list[Any] = []

        async def counted():
            answers.append(None)
            answers[-1] = await ask()
            return answers[-1]

        found = await original(self, counted)
        return True if found is False and len(answers) > 1 else found

    monkeypatch.setattr(Dispatcher, "patiently", patiently)
    assert "acted on its own end of message" in broken(tiers=[tier], plans=[DOUBT])


@pytest.mark.parametrize("tier", APART)
def test_the_store_does_not_recognise_a_repeated_end(broken, monkeypatch, tier):
    monkeypatch.setattr(SqlLedger, "recorded", lambda *_: False)
    lost = FaultPlan(faults=(Fault("lose", "record", after=True),))
    assert "it had recorded" in broken(tiers=[tier], plans=[lost])


@pytest.mark.parametrize("tier", APART)
def test_the_store_accepts_any_second_end(broken, monkeypatch, tier):
    monkeypatch.setattr(SqlLedger, "recorded", lambda *_: True)
    assert "acted on its own end of message" in broken(tiers=[tier], plans=[DOUBT])


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


POISON = FaultPlan(faults=(Fault("crash", "invoke", nth=None, of="increase", after=True),))


def test_poison_goes_round_for_ever(broken, monkeypatch):
    monkeypatch.setattr(Limits, "suspects", lambda self, delivery: False)
    assert "G2: message" in broken(tiers=["at_least_once"], plans=[POISON], limit=20)


def test_a_count_of_deliveries_is_taken_for_guilt(broken, monkeypatch):
    def arrival(trial, deliveries, limits, name):
        return Look(trial or Trial(name, before=deliveries - 1, fatal=("a", "b", "c")))

    monkeypatch.setattr(trials, "on_arrival", arrival)
    assert "G12: message" in broken(plans=[POISON])


def test_nobody_notes_whether_a_lone_run_began(broken, monkeypatch):
    async def noted(self, key):
        return ".began." in key

    async def note(self, key, seconds):
        pass

    monkeypatch.setattr(SimulatedTransport, "note", note)
    monkeypatch.setattr(SimulatedTransport, "noted", noted)
    assert "G12: message" in broken(tiers=["atomic"], plans=[INNOCENT], workers=1, limit=4000)


def test_a_process_that_lives_does_not_speak_for_its_suspect(broken, monkeypatch):
    monkeypatch.setattr(Trials, "_speak", lambda self, delivery, what, trial: None)
    assert "G12: message" in broken(tiers=["atomic"], plans=[LOST], limit=4000)


def test_what_waits_is_forgotten_before_it_is_sent(broken, monkeypatch):
    async def send(self, held):
        if held:
            await self.dispatcher.note([_resumed(one, self.clock.now()) for one in held])
            await self.dispatcher.transport.send([self._outgoing(one, self.clock.now()) for one in held])
        return len(held)

    monkeypatch.setattr(Timers, "send", send)
    assert "G1: workflow workflow-1 was dispatched and never ended" in broken(crash_at="note")

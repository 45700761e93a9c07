"""Plans are carried out in one order: record, publish, acknowledge, announce."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from unit.builders import EXECUTION, message

from paigeant.decisions.forward import decide
from paigeant.decisions.outcome import Completed, Parked, Poisoned, Returned
from paigeant.decisions.plan import Send, SetAside, Settle
from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.dispatch.packing import Packed
from paigeant.errors import ResultRefused, StoreError, StoreRefused, StoreRequired, Superseded, TransportError
from paigeant.events import ErrorInfo, LetterKind
from paigeant.records.workflow import Standing
from paigeant.transport import Delivery, Durability, Features, Outgoing

pytestmark = pytest.mark.anyio


class Effects(list[Any]):
    """Transport, store and observer in one: notes what is done to each, in order, and fails where it is told to."""

    fails: dict[str, Exception]
    known: dict[str, list[Outgoing]]

    features = Features(Durability.VOLATILE, delay=True)

    def __init__(self) -> None:
        self.fails, self.known = {}, {}

    def _do(self, what: str, *about: Any) -> None:
        if what in self.fails:
            raise self.fails[what]
        self.append((what, *about))

    async def settle(self, delivery, outgoing=(), record=()):
        self._do("settle", [one.id for one in outgoing], [event.type for event in record])

    async def release(self, delivery, delay=0.0):
        self._do("release", delay)

    async def postpone(self, outgoing):
        self._do("postpone", outgoing.id, outgoing.delay)

    async def send(self, outgoing, record=()):
        self._do("send", [one.id for one in outgoing], [event.type for event in record])

    async def connect(self):
        return None

    async def record(self, events, outbox=(), cause=None):
        self._do("record", [event.type for event in events], [one.id for one in outbox], cause)
        return cause not in self.known

    async def successors(self, message_id):
        return self.known.get(message_id)

    async def standing(self, message_id, correlation_id, late_after=0.0):
        return Standing(done=self.known.get(message_id))

    async def knows(self, correlation_id):
        return True

    async def plans(self, correlation_ids):
        return {one: ("", None) for one in correlation_ids if one in self.known}

    def observe(self, event):
        self._do("announce", event.type)


DELIVERY = Delivery(queue="p.a", body=b"body", tag=1, id="m1", deliveries=2)
ONE = message("a", "b")
NEXT = ONE.next(ONE.routing_slip.completed(decide(ONE, Completed(EXECUTION)).send[0].message.routing_slip.log[0])).id


@pytest.fixture
def effects() -> Effects:
    return Effects()


def dispatcher(effects: Effects, *, store: bool = True, joined: bool = False) -> Dispatcher:
    return Dispatcher(
        transport=effects,
        store=effects if store else None,
        joined=joined,
        app="a",
        prefix="p",
        message_limit=10_000,
        observers=[effects.observe],
    )


async def conclude(made: Dispatcher, outcome: Any) -> None:
    plan = decide(ONE, outcome)
    await made.settling.carry_out(plan, DELIVERY, made.packing.packed(plan, 5.0), cause=ONE.id, worker="w1", at=5.0)


async def test_apart_the_record_comes_first_then_the_settlement_then_the_announcement(effects):
    """With the successor in the outbox, so that it can be published again."""
    await conclude(dispatcher(effects), Completed(EXECUTION))
    assert effects == [
        ("record", ["step_completed"], [NEXT], ONE.id),
        ("settle", [NEXT], []),
        ("announce", "step_completed"),
    ]


async def test_joined_the_settlement_carries_the_record(effects):
    """One transaction, made by the transport."""
    await conclude(dispatcher(effects, joined=True), Completed(EXECUTION))
    assert effects == [("settle", [NEXT], ["step_completed"]), ("announce", "step_completed")]


async def test_without_a_store_there_is_only_the_settlement(effects):
    """And the announcement to those who look on."""
    await conclude(dispatcher(effects, store=False), Completed(EXECUTION))
    assert effects == [("settle", [NEXT], []), ("announce", "step_completed")]


async def test_a_second_end_of_a_message_sends_what_followed_the_first(effects):
    """And is announced to nobody (G3)."""
    effects.known[ONE.id] = [Outgoing(queue="p.b", body=b"", id="stored")]
    with pytest.raises(ResultRefused):
        await conclude(dispatcher(effects), Completed(EXECUTION))
    assert effects[1:] == [("settle", ["stored"], [])]


async def test_a_recorded_end_is_announced_although_the_delivery_was_lost(effects):
    """The store decides whether a result counts; the broker decides who holds the delivery."""
    effects.fails["settle"] = Superseded()
    await conclude(dispatcher(effects), Completed(EXECUTION))
    assert [what for what, *_ in effects] == ["record", "announce"]


@pytest.mark.parametrize("place", ["joined", "without a store"])
async def test_without_a_record_of_its_own_a_lost_delivery_is_a_refused_result(effects, place):
    """There the settlement is the record."""
    effects.fails["settle"] = Superseded()
    with pytest.raises(Superseded):
        await conclude(dispatcher(effects, joined=place == "joined", store=place == "joined"), Completed(EXECUTION))
    assert effects == []


@pytest.mark.parametrize("is_ours", [True, False])
async def test_after_a_lost_answer_the_store_decides_whose_end_is_recorded(effects, monkeypatch, is_ours):
    """It is ours if the store recorded it before the connection broke, and not if another worker began the step."""
    monkeypatch.setattr("paigeant.runtime.patience.SHORTEST_PAUSE", 0.0)
    made, record = dispatcher(effects), effects.record
    answers = [StoreError("cut"), is_ours]

    async def recorded(*given: Any) -> bool:
        await record(*given)
        match answers.pop(0):
            case Exception() as error:
                raise error
            case answer:
                return answer

    monkeypatch.setattr(effects, "record", recorded, raising=False)
    with nullcontext() if is_ours else pytest.raises(ResultRefused):
        await conclude(made, Completed(EXECUTION))
    assert (("announce", "step_completed") in effects) is is_ours


@pytest.mark.parametrize(
    ("broken", "error", "left"), [("record", StoreRefused(), []), ("settle", TransportError(), ["record"])]
)
async def test_nothing_comes_after_an_effect_that_failed(effects, broken, error, left):
    """The delivery is still held, and nobody was told (G4)."""
    effects.fails[broken] = error
    with pytest.raises(type(error)):
        await conclude(dispatcher(effects), Completed(EXECUTION))
    assert [what for what, *_ in effects] == left


async def test_the_end_of_a_step_is_recorded_when_the_store_is_back(effects, monkeypatch):
    """The step has run; that the store is away must not make it run again (G5)."""
    monkeypatch.setattr("paigeant.runtime.patience.SHORTEST_PAUSE", 0.001)
    tries = iter([StoreError(), StoreError(), None])
    record = effects.record

    async def away_at_first(*about):
        if (error := next(tries)) is not None:
            raise error
        return await record(*about)

    effects.record = away_at_first
    await conclude(dispatcher(effects), Completed(EXECUTION))
    assert [what for what, *_ in effects] == ["record", "settle", "announce"]


async def test_a_result_that_is_refused_is_announced_to_nobody(effects):
    """Another worker owns the delivery."""
    effects.fails["settle"] = Superseded()
    with pytest.raises(Superseded):
        await conclude(dispatcher(effects, joined=True), Completed(EXECUTION))
    assert effects == []


@pytest.mark.parametrize(
    ("place", "delay", "expected"),
    [
        ({}, 3.0, [("postpone", "m1", 3.0), ("release", 3.0)]),
        ({}, 0.0, [("release", 0.0)]),
        ({"joined": True}, 3.0, [("release", 3.0)]),
        ({"store": False}, 3.0, [("release", 3.0)]),
    ],
)
async def test_a_step_that_goes_back_is_released(effects, place, delay, expected):
    """A store apart is told first for how long, so that recovery does not send a second copy; nothing is recorded."""
    await conclude(dispatcher(effects, **place), Returned("not served", delay))
    assert effects == expected


@pytest.mark.parametrize(
    ("place", "expected"),
    [({}, [("postpone", "m1", 9.0)]), ({"joined": True}, []), ({"store": False}, [])],
)
async def test_a_message_that_is_put_off_is_not_lost_before_it_is_due(effects, place, expected):
    """The store apart knows when the copy is due, before the broker has it."""
    await dispatcher(effects, **place).settling.put_off(DELIVERY, DELIVERY.copy({"a": "b"}, 9.0))
    assert effects == [*expected, ("settle", ["m1"], [])]


POISON = Poisoned(EXECUTION, ErrorInfo(type="Poisoned", message="too often"))


async def test_what_is_set_aside_is_recorded_with_the_failure(effects):
    """In the dead letters."""
    await conclude(dispatcher(effects), POISON)
    assert effects[0][1] == ["step_failed", "workflow_failed", "message_dead_lettered"]


async def test_without_a_store_what_is_set_aside_goes_to_a_queue_of_its_own(effects):
    """In the same settlement, with the reason beside it."""
    sent = []

    async def settle(delivery, outgoing=(), record=()):
        sent.extend(outgoing)

    effects.settle = settle
    made = dispatcher(effects, store=False)
    await made.settling.carry_out(
        Settle(set_aside=SetAside(LetterKind.REFUSED, "why")), DELIVERY, Packed(), cause=None, worker="w1", at=5.0
    )
    (kept,) = sent
    assert (kept.queue, kept.body) == ("p.dead-letter", b"body")
    said = {"kind": "refused", "reason": "why", "queue": "p.a", "deliveries": "2", "worker": "w1", "at": "5.0"}
    assert kept.headers == said


async def test_what_is_known_of_a_message_is_asked_of_the_store(effects):
    """Without one every message may run."""
    effects.known[ONE.id] = [Outgoing(queue="p.b", body=b"", id="stored")]
    assert (await dispatcher(effects).reading.standing(ONE)).done == effects.known[ONE.id]
    assert await dispatcher(effects, store=False).reading.standing(ONE) == Standing()


PARKED = Parked(EXECUTION, "signal:go", 9.0, {"signal": "go"})


async def test_a_parked_step_is_held_in_the_store(effects):
    """With the record of that; nothing is published."""
    await conclude(dispatcher(effects), PARKED)
    assert effects == [
        ("record", ["step_parked", "message_held"], [], ONE.id),
        ("settle", [], []),
        ("announce", "step_parked"),
        ("announce", "message_held"),
    ]


async def test_without_a_store_nothing_can_be_held(effects):
    """The step fails, and says what is missing."""
    with pytest.raises(StoreRequired, match="signal:go"):
        await conclude(dispatcher(effects, store=False), PARKED)
    assert effects == []


@pytest.mark.parametrize(
    ("joined", "expected"),
    [
        (False, ["record", "send", "announce"]),
        (True, ["send", "announce"]),
    ],
)
async def test_a_workflow_begins_with_its_record(effects, joined, expected):
    """Before the message, or in one transaction with it."""
    made = dispatcher(effects, joined=joined)
    await made.beginning.start(made.packing.begun(Send(ONE), 1.0))
    assert [what for what, *_ in effects] == expected


@pytest.mark.parametrize(("joined", "expected"), [(False, ["record", "send", "announce"]), (True, [])])
async def test_a_repeated_dispatch_sends_nothing_that_was_surely_sent(effects, joined, expected):
    """Joined, the record proves it; apart, the inbox drops the copy."""
    effects.known["c1"] = []
    made = dispatcher(effects, joined=joined)
    await made.beginning.start(made.packing.begun(Send(ONE), 1.0), repeated=True)
    assert [what for what, *_ in effects] == expected

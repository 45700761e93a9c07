"""How a worker tries suspects: alone, later, or not at all. Time is virtual."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from paigeant.errors import TransportError
from paigeant.testing.virtual import run_virtually
from paigeant.transport import Delivery, Outgoing
from paigeant.worker.company import Company, Crowded
from paigeant.worker.suspects import HEADER, Limits, Trial, trial_of
from paigeant.worker.trials import HOLD, Trials

LIMITS = Limits.of(5, 1.0)


class Broker:
    """As much of a transport as trials use; ``away`` is for how many notes it cannot be reached."""

    def __init__(self, away: int = 0, *, keeps_notes: bool = True) -> None:
        self.away = away
        self.keeps_notes = keeps_notes
        self.notes: list[str] = []
        self.settled: list[Outgoing] = []
        self.released: list[float] = []

    async def settle(self, delivery: Delivery, outgoing: list[Outgoing]) -> None:
        self.settled += outgoing

    async def release(self, delivery: Delivery, delay: float = 0.0) -> None:
        self.released.append(delay)

    async def note(self, key: str, seconds: float) -> None:
        if self.away:
            self.away -= 1
            raise TransportError("away")
        self.notes.append(key)

    async def noted(self, key: str) -> bool | None:
        return key in self.notes if self.keeps_notes else None


class Bench:
    """A worker's trials, what it ran, in which company, and whom it condemned."""

    def __init__(self, broker: Broker | None = None) -> None:
        self.broker = broker or Broker()
        self.company = Company()
        self.is_stopping = False
        self.postponed: list[Outgoing] = []
        self.ran: list[int] = []
        self.alone: list[bool] = []
        self.condemned: list[str] = []
        self.seconds = 0.0
        transport: Any = self.broker
        self.trials = Trials(transport, LIMITS, self.company, lambda: self.is_stopping, self._postpone)

    async def _postpone(self, outgoing: Outgoing) -> None:
        self.postponed.append(outgoing)

    async def _run(self, delivery: Delivery, company: Company) -> None:
        self.ran.append(delivery.deliveries)
        self.alone.append(company is not self.company)
        await asyncio.sleep(self.seconds)

    async def _condemn(self, delivery: Delivery, reason: Any, unread: bool) -> None:
        self.condemned.append(reason.message)

    async def take(self, delivery: Delivery) -> None:
        await self.trials.take(delivery, self._run, self._condemn)


def delivery(trial: Trial | None = None, deliveries: int = 1) -> Delivery:
    headers = {} if trial is None else {HEADER: str(trial)}
    return Delivery(queue="q", body=b"{}", tag=1, id="m", headers=headers, deliveries=deliveries)


def virtually(test: Callable[[Bench], Awaitable[None]], broker: Broker | None = None) -> Bench:
    bench = Bench(broker)
    run_virtually(lambda _: test(bench))  # type: ignore[arg-type, return-value]
    return bench


READY = Trial("a", before=2)


def test_a_suspect_gets_a_trial():
    """The message is replaced by itself with a trial, and nothing runs."""
    bench = virtually(lambda bench: bench.take(delivery(deliveries=3)))
    (copy,) = bench.broker.settled
    trial = trial_of(copy.headers)
    assert trial is not None
    assert (trial.state, trial.before, bench.ran, bench.postponed) == ("ready", 2, [], [copy])


def test_it_runs_alone_and_its_beginning_is_noted_first():
    """Its deliveries are counted on, and its process says that it lived."""
    bench = virtually(_to_the_end)
    assert (bench.ran, bench.alone) == ([3], [True])
    assert bench.broker.notes == ["q.began.a", "q.spared.a"]


async def _to_the_end(bench: Bench) -> None:
    await bench.take(delivery(READY))
    await bench.trials.close()
    assert bench.company.seclude()  # others may come in again


def test_it_does_not_run_when_its_beginning_cannot_be_noted():
    async def test(bench: Bench) -> None:
        with pytest.raises(TransportError):
            await bench.take(delivery(READY))
        assert bench.company.seclude()

    assert virtually(test, Broker(away=1)).ran == []


def test_it_is_put_off_while_others_run():
    """Uncounted, for longer each time; recovery is told."""

    async def test(bench: Bench) -> None:
        async with bench.company.place(0):
            for _ in range(6):
                await bench.take(delivery(READY))

    bench = virtually(test)
    assert bench.broker.released == [0.5, 1.0, 2.0, 5.0, 5.0, 5.0]
    assert [one.delay for one in bench.postponed] == bench.broker.released
    assert bench.ran == []


def test_a_worker_that_is_never_idle_empties_for_it_after_half_a_minute():
    """Nobody new comes in for five seconds at most."""

    async def test(bench: Bench) -> None:
        loop, gone = asyncio.get_running_loop(), asyncio.Event()

        async def stay() -> None:
            async with bench.company.place(0):
                await gone.wait()

        staying = asyncio.create_task(stay())
        await asyncio.sleep(0)
        await bench.take(delivery(READY))
        await asyncio.sleep(31)
        begun = loop.time()
        await bench.take(delivery(READY))  # in vain
        assert loop.time() - begun <= HOLD + 0.1
        loop.call_later(2.0, gone.set)
        await bench.take(delivery(READY))
        await staying

    bench = virtually(test)
    assert (bench.ran, bench.alone) == ([3], [True])


def test_a_suspect_that_no_worker_can_run_alone_runs_with_others():
    """After ten minutes: an innocent one must end. That is no trial."""

    async def test(bench: Bench) -> None:
        async with bench.company.place(0):
            await bench.take(delivery(READY))
            await asyncio.sleep(601)
            await bench.take(delivery(READY))

    bench = virtually(test)
    assert (bench.ran, bench.alone, bench.broker.notes) == ([3], [False], [])


def test_others_come_in_after_its_lone_period():
    """It has shown that it does not kill at once; from then on its death is no evidence."""

    async def test(bench: Bench) -> None:
        bench.seconds = 60.0
        taking = asyncio.create_task(bench.take(delivery(READY)))
        await asyncio.sleep(4)
        with pytest.raises(Crowded):
            async with bench.company.place(0):
                pass
        async with bench.company.place(HOLD):
            assert bench.broker.notes == ["q.began.a", "q.outlived.a"]
            assert not bench.company.seclude()
        await taking

    virtually(test)


@pytest.mark.parametrize("event", ["stop", "loss"])
def test_a_process_that_lives_speaks_for_it_at_once(event):
    """When it is told to stop, so that a stop cut short is no evidence; and when it has lost the message."""

    async def test(bench: Bench) -> None:
        bench.seconds = 60.0
        taken = delivery(Trial("a", patience=3))
        taking = asyncio.create_task(bench.take(taken))
        await asyncio.sleep(20)
        assert bench.broker.notes == ["q.began.a"]
        bench.is_stopping, taken.lease.lost = event == "stop", event == "loss"
        bench.broker.away = 3  # it says so again until the broker has it
        await asyncio.sleep(10)
        assert bench.broker.notes == ["q.began.a", "q.spared.a"]
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)

    virtually(test)


def test_in_doubt_the_notes_decide():
    """Not begun: again. Begun: a death. Spared: none, and a frozen process may have said so late."""

    async def test(bench: Bench) -> None:
        doubt = Trial("a", "doubt", before=5, fatal=("b", "c"))
        for notes in ([], ["q.began.a", "q.spared.a"], ["q.began.a", "q.outlived.c"], ["q.began.a"]):
            bench.broker.notes = list(notes)
            await bench.take(delivery(doubt))

    bench = virtually(test)
    found = [trial_of(one.headers) for one in bench.broker.settled]
    assert [one and (one.state, one.fatal, one.losses) for one in found] == [
        ("ready", ("b", "c"), 0),
        ("ready", ("b", "c"), 1),
        ("ready", ("b", "a"), 0),
    ]
    assert "ran alone in its process 3 times" in bench.condemned[0]


def test_a_broker_without_notes_counts_each_return_of_a_trial():
    """It cannot say that a run did not begin: documented for brokers of best effort."""
    doubt = Trial("a", "doubt", before=5, fatal=("b", "c"))
    bench = virtually(lambda bench: bench.take(delivery(doubt)), Broker(keeps_notes=False))
    assert len(bench.condemned) == 1

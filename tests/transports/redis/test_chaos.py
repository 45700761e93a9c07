"""Redis queues under everything that can happen between a worker and its server, at random but repeatable.

Answers are lost, commands arrive late, workers die, sleep through their lease, and give back; then all is quiet. Every
chain of messages must come to its end, no settlement may be accepted for two holders, and nothing may be left behind.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from paigeant.transport import Delivery, Outgoing
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.redis import scripts
from paigeant.transports.redis.queue import RedisQueue, connect

LEASE = 30.0
LENGTH = 3
QUEUES = ("q", "p")


class Broken(redis.exceptions.ConnectionError):
    """The connection broke; what was sent may have been carried out, or will be, or not."""


class Worker:
    """A process: settles again what it does not know to be settled, as the bridge does."""

    def __init__(self, chaos: Chaos) -> None:
        self.chaos = chaos
        self.queue = RedisQueue(
            connect(chaos.url), address=str(id(self)), prefix=chaos.prefix, lease_seconds=LEASE, clock=chaos.clock
        )
        self.held: list[Delivery] = []
        self.waiting: list[Settlement] = []
        self._script = self.queue.server.scripts["exchange"]
        self.queue.server.scripts["exchange"] = self._run
        self.is_open = False

    def _run(self, **arguments: Any) -> Any:
        fate = self.chaos.dice.random() if self.chaos.is_on else 1.0
        if fate < 0.05:
            raise Broken("never arrived")
        if fate < 0.1:
            self.chaos.late.append(lambda: self._script(**arguments))
            raise Broken("arrives late")
        answer = self._script(**arguments)
        if fate < 0.15:
            raise Broken("its answer was lost")
        return answer

    def act(self) -> None:
        """One exchange, as the bridge makes it."""
        try:
            if not self.is_open:
                self.queue.open()
                self.queue.subscribe(QUEUES)
                self.is_open = True
            settlements = list(self.waiting)
            accepted, deliveries = self.queue.exchange(settlements, self.chaos.dice.randint(0, 3))
        except Broken:
            self.queue.disconnect()
            self.is_open = False
            return
        self.waiting = []
        for settlement, ok in zip(settlements, accepted, strict=True):
            if ok and settlement.release_after is None and settlement.delivery is not None:
                self.chaos.accepted[str(settlement.delivery.id)] += 1
        self.held += deliveries

    def finish(self) -> None:
        """What is held is settled with what follows, or given back."""
        for delivery in self.held:
            if self.chaos.is_on and self.chaos.dice.random() < 0.2:
                delay = self.chaos.dice.choice([0.0, 0.0, 1.0, 5.0])
                self.waiting.append(Settlement(delivery=delivery, release_after=delay))
            else:
                self.waiting.append(Settlement(delivery=delivery, outgoing=self.chaos.after(delivery)))
        self.held = []

    def die(self) -> None:
        self.queue.disconnect()


class Chaos:
    def __init__(self, url: str, prefix: str, clock: Any, seed: int) -> None:
        self.url, self.prefix, self.clock = url, prefix, clock
        self.dice = random.Random(seed)
        self.late: list[Callable[[], object]] = []
        self.accepted: Counter[str] = Counter()
        self.is_on = True
        self.workers = [Worker(self) for _ in range(3)]

    def message(self, workflow: int, step: int) -> Outgoing:
        delay = self.dice.choice([0.0, 0.0, 0.0, 2.0])
        id_ = f"{workflow}.{step}"
        return Outgoing(
            queue=self.dice.choice(QUEUES), body=b"", id=id_, delay=delay, priority=self.dice.choice([0, 0, 9])
        )

    def after(self, delivery: Delivery) -> list[Outgoing]:
        workflow, step = map(int, str(delivery.id).split("."))
        if step == LENGTH:
            return [Outgoing(queue="ended", body=b"", id=str(workflow))]
        return [self.message(workflow, step + 1)]

    def step(self) -> None:
        number = self.dice.randrange(len(self.workers))
        worker = self.workers[number]
        match self.dice.randint(0, 40):
            case 0:
                worker.die()
                self.workers[number] = Worker(self)
            case 1:
                self.clock.advance(LEASE + 1)
            case n if n < 6:
                self.clock.advance(self.dice.choice([0.5, 3.0, LEASE / 3]))
            case n if n < 9 and self.late:
                self.late.pop(self.dice.randrange(len(self.late)))()
            case n if n < 15:
                worker.finish()
            case _:
                worker.act()

    def calm_down(self) -> None:
        """No more trouble; whatever can still arrive arrives."""
        self.is_on = False
        while self.late:
            self.late.pop()()
        for _ in range(8):
            self.clock.advance(LEASE / 2)
            for _ in range(12):
                for worker in self.workers:
                    worker.act()
                    worker.finish()


@pytest.fixture
def make_chaos(redis_url: str, prefix: str, clock: Any) -> Iterator[Callable[[int], Chaos]]:
    made: list[Chaos] = []

    def make(seed: int) -> Chaos:
        made.append(Chaos(redis_url, f"{prefix}-{seed}:", clock, seed))
        return made[-1]

    yield make
    for chaos in made:
        for worker in chaos.workers:
            worker.queue.close()


@pytest.fixture
def in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call frees, moves and drops hardly anything, so that everything is left half done."""
    whole = scripts.text

    def text(name: str) -> str:
        found = whole(name)
        small = found.replace("MOST, MOST_BYTES, PAGE = 200, 1000000, 10", "MOST, MOST_BYTES, PAGE = 2, 1000000, 1")
        assert small != found
        return small

    monkeypatch.setattr(scripts, "text", text)


@pytest.mark.usefixtures("in_small_parts")
@pytest.mark.parametrize("seed", range(100, 108))
def test_every_chain_comes_to_its_end_in_small_parts(
    make_chaos: Callable[[int], Chaos], redis_url: str, seed: int
) -> None:
    """The same, with scripts that stop after two messages."""
    test_every_chain_comes_to_its_end(make_chaos, redis_url, seed)


@pytest.mark.parametrize("seed", range(12))
def test_every_chain_comes_to_its_end(make_chaos: Callable[[int], Chaos], redis_url: str, seed: int) -> None:
    """Whatever happens on the way, and each of its messages is settled once."""
    chaos = make_chaos(seed)
    workflows = range(8)
    dispatcher = RedisQueue(connect(redis_url), prefix=chaos.prefix, clock=chaos.clock)
    dispatcher.exchange([Settlement(outgoing=[chaos.message(number, 1)]) for number in workflows], 0)
    for _ in range(250):
        chaos.step()
    chaos.calm_down()

    ended = [delivery.id for delivery in dispatcher.take("ended", 100)]
    left = {queue: dispatcher.depth(queue) for queue in QUEUES}
    with redis.Redis.from_url(redis_url) as server:
        streams = server.scan_iter(match=f"{chaos.prefix}queue:[qp]:*")
        pending = [server.xpending(stream, "workers")["pending"] for stream in streams]
    dispatcher.close()
    assert sorted(map(str, ended)) == [str(number) for number in workflows]
    assert set(chaos.accepted.values()) == {1}
    assert left == dict.fromkeys(QUEUES, 0)
    assert set(pending) <= {0}

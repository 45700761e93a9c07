"""What the tests of SqlQueue do with it, and how they break its transactions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from paigeant.events import Event, StepCompleted, StepEnded
from paigeant.transport import Delivery, Outgoing
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.sql.queue import SqlQueue

LEASE = 30.0
TIDY = LEASE / 10
"""Seconds after which a process looks again for what the dead left."""


def send(queue: SqlQueue, *bodies: bytes, to: str = "q", **options: Any) -> None:
    outgoing = [Outgoing(queue=to, body=body, id=body.decode(), **options) for body in bodies]
    queue.exchange([Settlement(outgoing=outgoing)], 0)


def claim(queue: SqlQueue, limit: int = 10) -> list[Delivery]:
    return queue.exchange([], limit)[1]


def bodies(deliveries: Sequence[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in deliveries]


def settle(queue: SqlQueue, *deliveries: Delivery, **options: Any) -> list[bool]:
    return queue.exchange([Settlement(delivery=one, **options) for one in deliveries], 0)[0]


def release(queue: SqlQueue, delivery: Delivery, after: float = 0.0) -> None:
    queue.exchange([Settlement(delivery=delivery, release_after=after)], 0)


def kill(queue: SqlQueue) -> None:
    """Leave what a killed process leaves: broken connections and a heartbeat row."""
    queue.disconnect()
    queue.holder.id = ""


@contextlib.contextmanager
def broken(queue: SqlQueue, when: str | None) -> Iterator[None]:
    """Make the next commit fail as if the connection broke: before the database has it, or after."""
    dialect: Any = queue.database.engine.dialect
    commit = dialect.do_commit

    def fail(connection: Any) -> None:
        dialect.do_commit = commit
        if when == "after":
            commit(connection)
        raise dialect.loaded_dbapi.OperationalError("the connection broke")

    if when:
        dialect.do_commit = fail
    yield
    dialect.do_commit = commit


class RememberingLedger:
    """A store's part in the transaction, kept in memory; the first ``failures`` writes fail."""

    database_url = "unused"

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.events: list[Event] = []

    def write(self, connection: Any, events: Sequence[Event]) -> None:
        if self.failures:
            self.failures -= 1
            raise ValueError("the store cannot take this")
        self.events += events

    def finished(self, connection: Any, message_ids: Sequence[str]) -> set[str]:
        done = {event.message_id for event in self.events if isinstance(event, StepCompleted)}
        return done & set(message_ids)

    def recorded(self, connection: Any, ends: Sequence[StepEnded]) -> bool:
        return all(end in self.events for end in ends)


def completed(message_id: str, worker: str = "us", started_at: float = 0.0) -> StepCompleted:
    return StepCompleted(
        correlation_id="c",
        at=0.0,
        message_id=message_id,
        step_id="s",
        activity="a",
        attempt=1,
        worker=worker,
        started_at=started_at,
    )

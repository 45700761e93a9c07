"""The systems that are measured, and what an adapter has to be able to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from benchmarks.place import Place


class NotAvailable(Exception):
    """The system cannot be measured here; says why."""


class System(Protocol):
    """One framework on one broker, in its strongest reasonable configuration."""

    guarantee: str
    """What it promises about a message when a worker dies, in one line."""
    setup: str
    """How it is configured, in one line."""

    def prepare(self) -> None:
        """Make what must exist before the first dispatch: schema, queues.

        Raises:
            NotAvailable.
        """
        ...

    def worker(self, concurrency: int | None) -> list[str]:
        """The command that starts one worker process.

        With a concurrency for steps that wait; None for the no-op work, where the system has its best number.

        Raises:
            NotAvailable: it cannot run many waiting steps in one process.
        """
        ...

    def dispatch(self, workflows: Sequence[dict[str, Any]]) -> list[Any]:
        """Start workflows with this data; when it returns the broker has them. Gives their handles."""
        ...

    def wait(self, handle: Any, timeout: float) -> bool:
        """Wait for the result as a user does; False when the system keeps none."""
        ...

    def cleanup(self) -> None:
        """Disconnect, and delete from RabbitMQ what has the place's prefix."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A system that can be asked for by name.

    ``broker`` is the group it is compared in; ``peer`` says whether it is a yardstick there: what it promises is of
    the same kind as what paigeant promises. ``needs`` are the servers it uses, ``packages`` the versions to note.
    """

    name: str
    module: str
    broker: str
    packages: tuple[str, ...]
    needs: frozenset[str] = frozenset()
    peer: bool = True

    def open(self, place: Place) -> System:
        """
        Raises:
            ImportError: it is not installed.
        """
        made: System = import_module(f"benchmarks.systems.{self.module}").System(place)
        return made


def _entry(name: str, *packages: str, needs: str = "", peer: bool = True) -> Entry:
    module, broker = name.split("-")[:2]
    servers = {broker, *needs.split()} & {"redis", "rabbitmq", "postgresql"}
    return Entry(
        name=name, module=module, broker=broker, packages=packages, needs=frozenset(servers), peer=peer
    )  # fmt: skip


_TASKIQ = ("taskiq", "taskiq-pipelines", "taskiq-redis", "uvloop")

SYSTEMS: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        _entry("paigeant-sqlite", "paigeant", "SQLAlchemy", peer=False),
        _entry("dbos-sqlite", "dbos", "SQLAlchemy"),
        _entry("paigeant-postgresql", "paigeant", "SQLAlchemy", "psycopg", peer=False),
        _entry("dbos-postgresql", "dbos", "SQLAlchemy", "psycopg"),
        _entry("procrastinate-postgresql", "procrastinate", "psycopg"),
        _entry("paigeant-rabbitmq", "paigeant", "kombu", "amqp", peer=False),
        _entry("paigeant-rabbitmq-nostore", "paigeant", "kombu", "amqp", peer=False),
        _entry("paigeant-rabbitmq-nostore-classic", "paigeant", "kombu", "amqp", peer=False),
        _entry("celery-rabbitmq", "celery", "kombu", "amqp", needs="redis"),
        _entry("dramatiq-rabbitmq", "dramatiq", "pika", needs="redis"),
        _entry("dramatiq-rabbitmq-quorum", "dramatiq", "pika", needs="redis"),
        _entry("taskiq-rabbitmq", *_TASKIQ, "taskiq-aio-pika", "aio-pika", needs="redis"),
        _entry("kombu-rabbitmq", "kombu", "amqp", peer=False),
        _entry("paigeant-redis", "paigeant", "kombu", "redis", peer=False),
        _entry("paigeant-redis-nostore", "paigeant", "kombu", "redis", peer=False),
        _entry("celery-redis", "celery", "kombu", "redis", "hiredis"),
        _entry("dramatiq-redis", "dramatiq", "redis", "hiredis"),
        _entry("taskiq-redis", *_TASKIQ, "redis", "hiredis"),
        _entry("streaq-redis", "streaq", "coredis"),
        _entry("kombu-redis", "kombu", "redis", "hiredis", peer=False),
        _entry("paigeant-memory", "paigeant", "kombu", peer=False),
    )
}
"""By broker, paigeant first."""

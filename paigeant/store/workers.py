"""A role of a store: the workers that are alive, and the messages they hold."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Protocol

from paigeant.records.workflow import Owner, WorkerRecord
from paigeant.store.shared import Shared


class Presence(Shared, Protocol):
    """Workers announce themselves and name the messages they hold."""

    @abstractmethod
    async def announce(self, worker: WorkerRecord) -> None:
        """Record that this worker is alive."""

    @abstractmethod
    async def withdraw(self, worker_id: str) -> None:
        """Record that this worker has stopped and holds no message."""

    @abstractmethod
    async def workers(self) -> Sequence[WorkerRecord]:
        """List the workers that announced themselves, the latest first."""

    @abstractmethod
    async def brokers(self) -> Sequence[Owner]:
        """List the Apps whose workers announced themselves, each with its broker, the latest first."""

    @abstractmethod
    async def holds(self, worker_id: str, message_ids: Collection[str]) -> None:
        """Record that a worker holds exactly these messages.

        A message that another worker holds stays with that worker.
        """

    @abstractmethod
    async def claim(self, worker_id: str, message_id: str, *, take_over: bool = False) -> bool:
        """Claim a message that may count as lost, before the worker runs it.

        Returns False if another living worker holds it. ``take_over``: the broker has taken the message from its
        earlier holder.
        """

"""A role of a store: the signed statements of workflows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from paigeant.records.trust import StatementRecord
from paigeant.store.shared import Shared


class Statements(Shared, Protocol):
    """The plans, links, orders and answers that were recorded with the events that they prove."""

    @abstractmethod
    async def statements(self, correlation_ids: Collection[str]) -> Mapping[str, Sequence[StatementRecord]]:
        """Return the statements of these workflows by workflow, those of each in the order of their times."""

    @abstractmethod
    def evidence(self, message_id: str) -> Sequence[StatementRecord]:
        """Return the statements about the attempt of this message. Blocks, because plain functions call it too."""

    @abstractmethod
    def chain(self, correlation_id: str) -> Sequence[StatementRecord]:
        """Return the statements of this workflow. Blocks, as :meth:`evidence` does."""

    @abstractmethod
    async def proofs(self, message_ids: Collection[str]) -> Mapping[str, Sequence[StatementRecord]]:
        """Return the statements about the attempts of these messages, by message."""

"""What every role of a store has: an address, a clock, an owner and a connection."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

from paigeant.records.workflow import Owner
from paigeant.runtime.clock import Clock, SystemClock


class Shared(Protocol):
    """The connection that all roles of a store share."""

    url: str

    owner: Owner | None = None
    """The App that uses this store. The store hands out messages of this App only; without an owner, all messages."""

    @property
    def clock(self) -> Clock:
        """The clock that all users of this store share, so that a machine whose clock is wrong does no harm.

        Before the first connection, this clock shows the time of the machine.
        """
        return SystemClock()

    @abstractmethod
    async def connect(self) -> None:
        """Connect to the database and bring its schema up to date."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""

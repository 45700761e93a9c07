"""What the bridge's thread needs of a pump, the part that speaks with one broker over one connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from paigeant.errors import PaigeantError
from paigeant.transport import Delivery, Ledger
from paigeant.transports.pump.diagnosis import Diagnosis
from paigeant.transports.pump.settlement import Settlement, Verdict


@dataclass(frozen=True, slots=True)
class Glances:
    """How to notice for next to nothing, while the thread sleeps, that an exchange is worthwhile.

    ``every``: seconds between two glances. ``has_news``: whether anyone has written anything since the last glance.
    """

    every: float
    has_news: Callable[[], bool]


class Pump(Protocol):
    """What the thread needs of a channel; all of it is called in the thread.

    ``keeps_leases``: its deliveries stay its own when the connection breaks, so it is opened again, not replaced.
    """

    keeps_leases: bool

    @property
    def patience(self) -> float | None:
        """How many seconds the thread may wait before the next exchange; None: until it is handed something."""
        ...

    @property
    def obstacle(self) -> str | None:
        """What is wrong although the connection is there, in one line."""
        ...

    def fileno(self) -> int | Sequence[int] | None:
        """The sockets on which the broker speaks first; None for a broker that has to be asked."""
        ...

    @property
    def glances(self) -> Glances | None:
        """For a broker that does not speak first and yet need not be asked; None for any other."""
        ...

    def open(self) -> None: ...

    def disconnect(self) -> None: ...

    def close(self) -> None: ...

    def enlist(self, ledger: Ledger) -> None: ...

    def subscribe(self, names: Sequence[str], prefetch: int) -> Mapping[str, PaigeantError] | None:
        """Consume from these queues and no others; those that the broker refuses, if the pump serves the others."""
        ...

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> tuple[Sequence[Verdict], list[Delivery]]:
        """Settle, then take what has arrived. What gets the verdict None is given again with the next exchange."""
        ...

    def finish(self) -> None:
        """Do what an exchange leaves to be done, such as to wake others, once what it brought is handed out."""
        ...

    def renew(self) -> None: ...

    def declare(self, names: Sequence[str]) -> None: ...

    def purge(self, name: str) -> int: ...

    def delete(self, name: str) -> None: ...

    def depth(self, name: str) -> int: ...

    def depths(self) -> Mapping[str, int]: ...

    def note(self, key: str, seconds: float) -> None: ...

    def noted(self, key: str) -> bool | None: ...

    def diagnose(self, error: BaseException) -> Diagnosis:
        """What an error concerns that one of these methods raised."""
        ...

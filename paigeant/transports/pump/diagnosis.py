"""What an error of a broker concerns, and what the transport does about it. Nothing here does I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Scope(IntEnum):
    """What an error concerns, from the smallest to the largest."""

    MESSAGE = 1
    """One settlement: what it publishes, or records."""
    QUEUE = 2
    """One queue: every message to it and every consumer of it, and nothing else."""
    CHANNEL = 3
    """The channel that holds the deliveries: they are lost with it."""
    CONNECTION = 4
    """The connection, and every delivery that it holds."""
    SERVER = 5
    """The broker as a whole."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """An error with its scope. ``again``: whether the same request may succeed later.

    ``is_ours``: nothing a broker does explains it, so it is a fault of paigeant and logged with its traceback.
    """

    scope: Scope
    again: bool
    is_ours: bool = False

    @property
    def is_narrow(self) -> bool:
        """Whether the connection and everybody else's deliveries are still good."""
        return self.scope <= Scope.QUEUE


OURS = Diagnosis(Scope.MESSAGE, again=False, is_ours=True)
"""A fault of paigeant's own."""
REFUSED = Diagnosis(Scope.MESSAGE, again=False)
"""The broker can never take one of the settlements."""
LOST = Diagnosis(Scope.CONNECTION, again=True)
"""The connection is lost, or in doubt."""


class Response(StrEnum):
    """What the transport's thread does about trouble during an exchange."""

    RECONNECT = "reconnect"
    """Drop the connection, pause, connect and make the same settlements again."""
    ONE_BY_ONE = "one by one"
    """Make each settlement on its own to find the one that is refused."""
    REFUSE = "refuse"
    """Refuse this settlement: it is the only one, so it is the one that the error concerns."""


def response(diagnosis: Diagnosis, together: int) -> Response:
    """What to do about trouble that met this many settlements together."""
    if not diagnosis.is_narrow or together == 0:
        return Response.RECONNECT
    return Response.REFUSE if together == 1 else Response.ONE_BY_ONE

"""Messages in memory."""

from __future__ import annotations

from functools import partial

from kombu import Connection

from paigeant.transports.kombu import KombuTransport
from paigeant.transports.schemes import features_of


class InMemoryTransport(KombuTransport):
    """Carries messages within this process and loses them with it: for tests and first steps.

    What one instance publishes, every other in the process can consume.
    """

    def __init__(self, url: str = "memory://") -> None:
        super().__init__(url, features_of("memory"), partial(Connection, url))

"""A watchdog for consumers that have gone deaf: the connection looks well, messages wait, and none is delivered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from paigeant.errors import TransportError

DEAF_AFTER = 15.0
"""Seconds of silence after which a consumer that could take more is doubted."""

_SUSPICIONS = 2
"""So often in a row, since others may just be taking what waits."""


class Hearing:
    """Of one pump's consumers. Asking the broker costs nothing while messages come."""

    def __init__(self) -> None:
        self._suspicions = 0
        self.heard()

    def heard(self) -> None:
        """Something came, or nothing could: the silence begins now."""
        self._listen_until = time.monotonic() + DEAF_AFTER

    def check(self, queues: Iterable[str], depth: Callable[[str], int], has_arrived: Callable[[], bool]) -> None:
        """Called while nothing comes.

        Raises:
            TransportError: messages wait in one of the queues, and none was delivered: begin anew.
        """
        if time.monotonic() < self._listen_until:
            return
        waiting = [name for name in queues if depth(name) > 0]
        self.heard()
        self._suspicions = self._suspicions + 1 if waiting and not has_arrived() else 0
        if self._suspicions >= _SUSPICIONS:
            raise TransportError(f"the broker has messages in {waiting[0]!r} and delivers none")

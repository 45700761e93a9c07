"""The connection on which wake-ups arrive at a consumer: one channel for each of its queues."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import redis

from paigeant.transports.redis.client import SOCKET_TIMEOUT

QUIET = 15.0
"""Seconds of silence after which the connection is tested: a proxy may have dropped it without notice."""


class WakeUps:
    """Receives wake-ups. A process that does not consume opens no such connection."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._redis = client
        self._prefix = prefix
        self._names: tuple[str, ...] = ()
        self._pubsub: Any = None
        self._heard_at = 0.0
        self._asked_at: float | None = None

    def listen(self, names: Sequence[str]) -> bool:
        """Listen for these queues. Returns whether this began just now: the caller then looks for earlier messages."""
        wanted = tuple(sorted(names))
        if self._pubsub is not None and wanted == self._names:
            return False
        self.close()
        self._names, self._pubsub = wanted, self._redis.pubsub()  # type: ignore[no-untyped-call]
        channels = [f"{self._prefix}wake:{name}" for name in wanted]
        self._pubsub.subscribe(*channels)
        for _ in channels:
            self._pubsub.get_message(timeout=SOCKET_TIMEOUT)
        self._heard()
        return True

    def hear(self) -> bool:
        """Read the wake-ups. Returns whether one of the queues has a message.

        Raises:
            redis.exceptions.ConnectionError: the connection is broken, or does not answer.
        """
        woken = False
        while self._pubsub.connection.can_read(timeout=0):
            message = self._pubsub.get_message(timeout=0)
            woken |= message is not None and message["type"] == "message"
            self._heard()
        self._check(time.monotonic())
        return woken

    def fileno(self) -> int | None:
        """Return the socket on which wake-ups arrive."""
        connection = self._pubsub.connection if self._pubsub is not None else None
        return int(connection._sock.fileno()) if connection is not None and connection._sock is not None else None

    def close(self) -> None:
        """Close the connection."""
        if self._pubsub is not None:
            self._pubsub.close()
            self._pubsub = None

    def _heard(self) -> None:
        self._heard_at, self._asked_at = time.monotonic(), None

    def _check(self, now: float) -> None:
        if self._asked_at is not None and now > self._asked_at + SOCKET_TIMEOUT:
            raise redis.exceptions.ConnectionError("the connection for wake-ups does not answer any more")
        if self._asked_at is None and now > self._heard_at + QUIET:
            self._asked_at = now
            self._pubsub.ping()

"""One AMQP connection: its frames, its heartbeats, and whether RabbitMQ has blocked it."""

from __future__ import annotations

import time
from typing import Any

import amqp
import structlog
from amqp import spec
from kombu import Connection

from paigeant.transports.amqp.desk import Desk
from paigeant.transports.amqp.frames import frame_handler
from paigeant.transports.amqp.parts import Parts

log = structlog.stdlib.get_logger("paigeant.transport")

FRAME_TIMEOUT = 5.0
"""Seconds in which RabbitMQ must answer a question, and the longest that a write may wait."""

_LONGEST_REST = 5.0


class Link:
    """Opens a kombu connection and owns its socket. Every method may raise what a lost connection raises."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        options = connection.transport_options or {}
        connection.transport_options = options | {"frame_handler": frame_handler}
        self.blocked: str | None = None
        """Why RabbitMQ reads nothing more from this connection, in its words; None while it does."""
        self._beat_at = 0.0

    def open(self) -> None:
        """Connect."""
        self._connection.ensure_connection(max_retries=max(1, len(self._connection.alt)), interval_start=0)
        self.amqp: amqp.Connection = self._connection.connection
        self.amqp.sock.settimeout(FRAME_TIMEOUT)  # or a reply that never comes is waited for without end
        self.parts = Parts(self.amqp.transport)
        self.desk = Desk(self.amqp)
        # py-amqp knows the method but not that it has an argument.
        self.amqp._METHODS = self.amqp._METHODS | {spec.Connection.Blocked: spec.method(spec.Connection.Blocked, "s")}
        self.amqp._callbacks[spec.Connection.Blocked] = self._on_blocked
        self.amqp._callbacks[spec.Connection.Unblocked] = self._on_unblocked

    def collect(self) -> None:
        """Close the socket without asking the broker."""
        self._connection.collect(1.0)

    def _on_blocked(self, reason: str) -> None:
        if self.blocked is None:
            log.warning("RabbitMQ blocked publishing", reason=reason)
        self.blocked = reason or "for a reason that its log tells"

    def _on_unblocked(self) -> None:
        log.info("RabbitMQ takes messages again")
        self.blocked = None

    @property
    def is_lost(self) -> bool:
        """Whether py-amqp has closed the connection: it uses attributes of a lost one, which are gone."""
        return not self.amqp.connected

    def fileno(self) -> int:
        return int(self.amqp.sock.fileno())

    @property
    def patience(self) -> float:
        """Seconds after which :meth:`beat` wants to be called: short enough for heartbeats."""
        if self.parts.has_unread:
            return 0.0
        return min(self.amqp.heartbeat / 3, _LONGEST_REST) if self.amqp.heartbeat else _LONGEST_REST

    def read(self) -> None:
        """Take every frame that is there, without waiting for more."""
        while self.parts.has_come():
            self.read_frame()

    def read_frame(self) -> None:
        """One of them: ``drain_events`` reads on until a method has arrived, so a lone heartbeat would time it out."""
        self.amqp.on_inbound_frame(self.amqp.transport.read_frame())

    def beat(self, *, force: bool = False) -> None:
        """Send a heartbeat if one is due; raises when the broker has been silent for two."""
        heartbeat = self.amqp.heartbeat
        if heartbeat and (force or time.monotonic() >= self._beat_at):
            self._beat_at = time.monotonic() + heartbeat / 3
            self.amqp.heartbeat_tick()

    @property
    def heard(self) -> int:
        """A number that changes with every frame that comes."""
        heard: int = self.amqp.bytes_recv
        return heard

    @property
    def server(self) -> dict[str, Any]:
        """What the server said of itself when we connected: product, version, capabilities."""
        told: dict[str, Any] = self.amqp.server_properties
        return told

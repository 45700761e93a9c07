"""py-amqp's socket, read and written in large parts.

py-amqp asks the system three times for each frame that comes and once for each message that goes. Every such call lets
another thread have the interpreter, and getting it back may take as long as a thread may keep it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paigeant.io_thread import readable

_READ = 16_384
"""Bytes read at once, and the most that TLS gives."""

_WRITTEN = 262_144
"""Bytes that are gathered before they are sent."""


class Parts:
    """What stands between one py-amqp transport and its socket."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._send = transport._write
        self._gathered: bytearray | None = None
        receive = transport._quick_recv
        transport._quick_recv = lambda size: receive(max(size, _READ))
        transport._write = self._write

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """What is written inside is sent at the end. Nothing inside may wait for an answer to it."""
        self._gathered = bytearray()
        try:
            yield
            self._flush(self._gathered)
        finally:
            self._gathered = None

    def _write(self, data: bytes) -> None:
        if self._gathered is None:
            self._send(data)
            return
        self._gathered += data
        if len(self._gathered) >= _WRITTEN:
            self._flush(self._gathered)

    def _flush(self, gathered: bytearray) -> None:
        if gathered:
            self._send(gathered)
            gathered.clear()

    @property
    def has_unread(self) -> bool:
        """Whether something is here already, so that nobody will hear it come."""
        pending = getattr(self._transport.sock, "pending", None)
        return bool(self._transport._read_buffer) or (pending is not None and bool(pending()))

    def has_come(self, patience: float = 0.0) -> bool:
        """Whether a part of a frame is here; waits so many seconds for one."""
        return self.has_unread or bool(readable([self._transport.sock.fileno()], max(0.0, patience)))

"""py-amqp's socket, read and written in large parts.

py-amqp asks the system three times for each frame that comes and once for each message that goes. Every such call lets
another thread have the interpreter, and getting it back may take as long as a thread may keep it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ssl import SSLSocket
from typing import Any

from paigeant.runtime.io_thread import readable, ready

_READ = 16_384
"""Bytes read at once, and the most that TLS gives and takes."""

_WRITTEN = 262_144
"""Bytes that are sent at once."""


class Parts:
    """What stands between one py-amqp transport and its socket."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._send = transport._write
        self._unsent = bytearray()
        self._is_gathering = False
        receive = transport._quick_recv
        transport._quick_recv = lambda size: receive(max(size, _READ))
        transport._write = self._write

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """What is written inside is sent at the end. Nothing inside may wait for an answer to it."""
        with self.put_off():
            yield
        self._flush()

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """What is written inside is sent by :meth:`send_some`, or with what is written next."""
        self._is_gathering = True
        try:
            yield
        finally:
            self._is_gathering = False

    def _write(self, data: bytes) -> None:
        if self._is_gathering:
            self._unsent += data
            return
        self._flush()
        self._send(data)

    def _flush(self) -> None:
        while self._unsent:
            self._send(bytes(self._unsent[:_WRITTEN]))
            del self._unsent[:_WRITTEN]

    def send_some(self) -> None:
        """Send of what was put off as much as the socket takes now."""
        at_once = _READ if isinstance(self._transport.sock, SSLSocket) else _WRITTEN
        while self._unsent and ready(self._fileno, 0.0, writing=True).can_write:
            sent = self._transport.sock.send(bytes(self._unsent[:at_once]))
            del self._unsent[:sent]

    @property
    def has_unsent(self) -> bool:
        """Whether something was put off and not sent."""
        return bool(self._unsent)

    @property
    def has_unread(self) -> bool:
        """Whether something is here already, so that nobody will hear it come."""
        pending = getattr(self._transport.sock, "pending", None)
        return bool(self._transport._read_buffer) or (pending is not None and bool(pending()))

    def has_come(self, patience: float = 0.0) -> bool:
        """Whether a part of a frame is here; waits so many seconds for one."""
        return self.has_unread or bool(readable([self._fileno], max(0.0, patience)))

    def wait(self, patience: float) -> bool:
        """Wait until something has come or more can be sent, which is then done; False when neither happened."""
        if self.has_unread:
            return True
        found = ready(self._fileno, max(0.0, patience), writing=self.has_unsent)
        if found.can_write:
            self.send_some()
        return found.can_read or found.can_write

    @property
    def _fileno(self) -> int:
        return int(self._transport.sock.fileno())

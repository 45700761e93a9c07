"""The connection of a bridge with its pump: made when it is needed, dropped after trouble, closed at the end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog
from kombu import Connection

from paigeant.transport import Ledger
from paigeant.transports.bridge.choice import pump_of
from paigeant.transports.pump.contract import Pump

log = structlog.stdlib.get_logger("paigeant.transport")


class Line:
    """``pump`` is None while there is no connection. Everything here is called in the bridge's thread.

    A pump that keeps its leases (see :class:`Pump`) is not replaced after trouble: it ``is_resting`` until it is opened
    again.
    """

    def __init__(self, url: str, connection: Callable[[], Connection], ledger: Ledger | None) -> None:
        self._url = url
        self._new_connection = connection
        self._connection: Connection | None = None
        self._resting: Pump | None = None
        self.ledger = ledger
        self.pump: Pump | None = None

    @property
    def is_resting(self) -> bool:
        return self._resting is not None

    def open(self) -> tuple[Pump, bool]:
        """The pump, and whether it was opened just now."""
        if self.pump is not None:
            return self.pump, False
        pump = self._resting or self._make()
        try:
            pump.open()
        except BaseException:
            self.pump = pump
            self.drop()
            raise
        if self.ledger is not None:
            pump.enlist(self.ledger)
        self.pump, self._resting = pump, None
        return pump, True

    def _make(self) -> Pump:
        try:
            self._connection = self._new_connection()
            return pump_of(self._connection, self._new_connection)
        except BaseException:
            self.drop()
            raise

    def drop(self) -> None:
        """Disconnect without asking the broker."""
        pump, self.pump = self.pump, None
        self._without_trouble(pump.disconnect if pump is not None else None)
        if pump is not None and pump.keeps_leases:
            self._resting = pump
        elif self._resting is None:
            connection, self._connection = self._connection, None
            self._without_trouble(connection and partial(connection.collect, 1.0))

    def abandon(self) -> None:
        """Close the sockets as the kernel closes those of a killed process."""
        if self.pump is not None:
            self.pump.disconnect()
        if self._connection is not None:
            self._connection.collect(1.0)
        self.pump = self._connection = self._resting = None

    def close(self) -> None:
        """Give back what the pump holds, and disconnect in good order, if the broker lets us."""
        try:
            if (pump := self.pump or self._resting) is not None:
                pump.close()
            if self._connection is not None:
                self._connection.release()
        except Exception as error:  # noqa: BLE001 - nobody is left to handle it
            log.warning("could not part from the broker in good order", broker=self._url, error=str(error))
            self._without_trouble(self._connection and partial(self._connection.collect, 1.0))

    def _without_trouble(self, close: Callable[[], object] | None) -> None:
        try:
            if close is not None:
                close()
        except Exception:  # noqa: BLE001 - it is broken: that is why it is dropped
            log.debug("could not close a broken connection", broker=self._url)

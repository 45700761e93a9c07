"""A kombu transport over the tables of an SQL database, usable by any kombu program.

``Connection("sqlite:///queue.db", transport="paigeant.transports.sql:Transport")``
"""

from __future__ import annotations

from paigeant.transports.sql.transport import Transport as Transport

__all__ = ["Transport"]

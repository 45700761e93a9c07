"""A kombu transport over Redis Streams, usable by any kombu program.

``Connection("redis://localhost:6379/0", transport="paigeant.transports.redis:Transport")``
"""

from __future__ import annotations

from paigeant.transports.redis.transport import Transport as Transport

__all__ = ["Transport"]

"""Frames of AMQP that py-amqp cannot read: the message is handed on without its properties, the connection stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from amqp import method_framing

log = structlog.stdlib.get_logger("paigeant.transport")

_HEADER = 2
_FIXED = 12
"""Bytes before the properties: class, weight and the size of the body."""

_NO_PROPERTIES = b"\0\0"


def frame_handler(connection: Any, callback: Callable[..., Any]) -> Callable[[Any], Any]:
    """py-amqp's frame handler, which gives up on a type or a text it does not know and on tables nested without end.

    RabbitMQ carries such messages. To py-amqp the error looks like a broken connection: after the next connect the same
    message would come first again.
    """
    handle = method_framing.frame_handler(connection, callback)

    def on_frame(frame: Any) -> Any:
        try:
            return handle(frame)
        except Exception as error:
            kind, channel, payload = frame
            if kind != _HEADER:
                raise
            log.warning("the properties of a message cannot be read", error=type(error).__name__)
            return handle((kind, channel, bytes(payload[:_FIXED]) + _NO_PROPERTIES))

    return on_frame

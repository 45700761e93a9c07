"""What was received from a broker, made safe to handle: anybody may have put it there, and it may be anything.

Bytes stay as they are: nothing is decompressed, decoded or revived because a message says so. What nobody can use is
left out here, and what is no message at all becomes one without headers, so that it can be set aside with a reason.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from queue import Empty
from typing import Any
from uuid import uuid4

import structlog

log = structlog.stdlib.get_logger("paigeant.transport")

_LONGEST_ID = 1024
UNREADABLE = (ValueError, RecursionError)
"""What kombu's transports raise for an item that is not their JSON, or nested without end."""


def headers_of(found: Any) -> dict[str, Any]:
    """The headers that have a name."""
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if isinstance(name, str)}


def id_of(found: Any) -> str | None:
    """A message id that can be written down anywhere, or None."""
    if not isinstance(found, str) or not 0 < len(found) <= _LONGEST_ID:
        return None
    return found if found.isprintable() else None


def bytes_of(body: Any) -> bytes:
    """A body as bytes; a text is written as UTF-8."""
    if isinstance(body, str):
        return body.encode(errors="surrogatepass")
    try:
        return bytes(body or b"") if not isinstance(body, int) else str(body).encode()
    except (TypeError, ValueError):
        return _as_json(body)


# --- kombu's virtual transports --------------------------------------------------------------------------------------


def guard(channel: Any) -> None:
    """Have the channel hand on what it cannot read, rather than raise after it has taken it out of the queue."""
    get = getattr(channel, "_get", None)
    if get is not None:
        channel._get = _careful(get)


def _careful(get: Callable[..., Any]) -> Callable[..., Any]:
    def careful(queue: str, **options: Any) -> Any:
        try:
            return get(queue, **options)
        except Empty:
            raise
        except UNREADABLE as error:
            log.warning("an item in a queue is no message", queue=queue, error=type(error).__name__)
            return {"body": getattr(error, "doc", "")}

    return careful


def guard_consumer(channel: Any, queue: str) -> None:
    """Have the channel's consumer of this queue given nothing but what kombu takes for a message."""
    callbacks = getattr(channel.connection, "_callbacks", None)
    if callbacks is not None and queue in callbacks:
        receive = callbacks[queue]
        callbacks[queue] = lambda raw: receive(readable(raw, queue))


def readable(raw: Any, queue: str) -> dict[str, Any]:
    """A raw item as kombu's virtual transports need it. It came from this queue, whatever it says of itself."""
    item = raw if isinstance(raw, dict) else {"body": raw}
    found = item.get("properties")
    properties = dict(found) if isinstance(found, dict) else {}
    tag = properties.get("delivery_tag")
    headers = headers_of(item.get("headers"))
    headers.pop("compression", None)  # kombu would decompress it, however much that gives
    return {
        "body": _encoded(item.get("body"), properties.get("body_encoding")),
        "content-type": _text(item.get("content-type")),
        "content-encoding": _text(item.get("content-encoding")),
        "headers": headers,
        "properties": properties
        | {
            "body_encoding": "base64",
            "delivery_tag": tag if isinstance(tag, str) else str(uuid4()),
            "delivery_info": {"exchange": "", "routing_key": queue, "redelivered": _was_out(properties)},
        },
    }


def _encoded(body: Any, encoding: Any) -> str:
    """The body in base64, as it came if it is that already."""
    if encoding == "base64" and isinstance(body, str | bytes):
        text = body if isinstance(body, str) else body.decode("ascii", errors="replace")
        try:
            base64.b64decode(text)
            return text
        except ValueError:
            pass
    return base64.b64encode(bytes_of(body)).decode()


def _was_out(properties: Mapping[str, Any]) -> bool:
    info = properties.get("delivery_info")
    return isinstance(info, dict) and bool(info.get("redelivered"))


def _text(found: Any) -> str | None:
    return found if isinstance(found, str) else None


def _as_json(found: Any) -> bytes:
    """To be set aside: what it was, if it can be told."""
    try:
        return json.dumps(found, default=repr).encode(errors="replace")
    except UNREADABLE:
        return b""


# --- counts ----------------------------------------------------------------------------------------------------------


def deliveries_of(headers: Mapping[str, Any], redelivered: object) -> int:
    """The broker's count where it keeps one (RabbitMQ quorum queues), else what the redelivered flag tells."""
    counted = headers.get("x-delivery-count")
    if isinstance(counted, int):
        return max(counted, 0) + 1
    return 2 if redelivered else 1

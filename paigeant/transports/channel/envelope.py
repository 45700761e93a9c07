"""Messages as kombu's virtual transports see them, and as our queues keep them.

Headers and body are kept as they are; what AMQP has beside them, the properties and the content type, in one header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kombu.utils.json import JSONEncoder, object_hook

from paigeant.transport import Delivery, Outgoing
from paigeant.transports.channel.routes import ENVELOPE, seconds
from paigeant.transports.pump.settlement import Settlement

_MOST_URGENT = 9


def addressed(queue: str, message: Mapping[str, Any], arguments: Mapping[str, Any]) -> Settlement:
    """A message of kombu's as it is published to a queue with these arguments."""
    body, properties = message["body"], message["properties"]
    headers = {**(message["headers"] or {}), ENVELOPE: _envelope(message)}
    times = (seconds(properties.get("expiration")), seconds(arguments.get("x-message-ttl")))
    outgoing = Outgoing(
        queue=queue,
        body=body.encode() if isinstance(body, str) else body,
        headers=_plain(headers),
        delay=seconds(headers.get("x-delay")) or 0.0,
        priority=_priority(properties, arguments),
    )
    return Settlement(outgoing=[outgoing], expires=min((one for one in times if one is not None), default=None))


def _envelope(message: Mapping[str, Any]) -> dict[str, Any]:
    """What AMQP keeps beside headers and body."""
    kept = {name: message[name] for name in ("content-type", "content-encoding")}
    return {**kept, "properties": message["properties"]}


def _priority(properties: Mapping[str, Any], arguments: Mapping[str, Any]) -> int:
    """0 to 9, or to the queue's ``x-max-priority``; 0 for what is no number."""
    try:
        highest = min(int(arguments.get("x-max-priority", _MOST_URGENT)), _MOST_URGENT)
        return max(0, min(int(properties["priority"]), highest))
    except (KeyError, TypeError, ValueError):
        return 0


def payload(delivery: Delivery, delivery_tag: str, consumer_tag: str = "") -> dict[str, Any]:
    """A delivery as kombu's virtual transports hand it to Message. What another program wrote need not be kombu's."""
    headers = _headers(delivery)
    found = headers.pop(ENVELOPE, None)
    envelope = found if isinstance(found, dict) else {}
    properties = envelope.get("properties")
    properties = dict(properties) if isinstance(properties, dict) else {}
    address = properties.get("delivery_info")
    properties["delivery_info"] = {
        "exchange": "",
        "routing_key": delivery.queue,
        **(address if isinstance(address, dict) else {}),
        "consumer_tag": consumer_tag,
        "redelivered": delivery.redelivered,
    }
    properties["delivery_tag"] = delivery_tag
    if delivery.deliveries > 1:
        headers["x-delivery-count"] = delivery.deliveries - 1
    return {
        "body": delivery.body,
        "properties": properties,
        "content-type": envelope.get("content-type", "application/json"),
        "content-encoding": envelope.get("content-encoding", "utf-8"),
        "headers": headers,
    }


def _plain(value: Any) -> Any:
    """As JSON types, dates and the like as kombu writes them."""
    return json.loads(json.dumps(value, cls=JSONEncoder))


def _revived(value: Any) -> Any:
    """What :func:`_plain` wrote, as it was; a type that kombu does not know stays as it is."""
    if isinstance(value, list):
        return [_revived(one) for one in value]
    if not isinstance(value, dict):
        return value
    plain = {name: _revived(one) for name, one in value.items()}
    try:
        return object_hook(plain)
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError):
        return plain


def _headers(delivery: Delivery) -> dict[str, Any]:
    """The headers as they were sent; none when they are nested too deeply to be anybody's."""
    try:
        return dict(_revived(delivery.headers))
    except (RecursionError, TypeError, ValueError):
        return {}

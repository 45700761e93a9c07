"""Messages as rows of the table. Whoever can write to the table may have written one: no row may stop a worker."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from sqlalchemy import Row

from paigeant.transport import Delivery, Lease, Outgoing, Term, id_in
from paigeant.wire import strict_json


def row_of(one: Outgoing, expires: float | None, now: float) -> dict[str, Any]:
    """A message as it is published; ``expires`` is seconds. A message ages when it is due."""
    due = now + one.delay if one.delay > 0 else None
    return {
        "queue": one.queue,
        "message_id": one.name,
        "priority": one.priority,
        "enqueued_at": now,
        "available_at": due,
        "expires_at": (due or now) + expires if expires is not None else None,
        "token": 0,
        "deliveries": 0,
        "headers": json.dumps(dict(one.headers)) if one.headers else "{}",
        "body": one.body,
    }


def delivery_of(row: Row[Any], term: Term | None = None) -> Delivery:
    """A row that was claimed; ``term`` is how long its holder's leases hold."""
    return Delivery(
        queue=row.queue,
        body=_bytes(row.body),
        tag=(row.id, row.token),
        token=row.token,
        id=id_in(row.message_id) if isinstance(row.message_id, str) else None,
        headers=json_object(row.headers) if row.headers != "{}" else {},
        deliveries=row.deliveries,
        redelivered=row.token > 1,
        priority=int(as_number(row.priority) or 0),
        lease=Lease(term),
    )


def _bytes(value: Any) -> bytes:
    """A SQLite column holds values of any type."""
    match value:
        case bytes():
            return value
        case memoryview():
            return value.tobytes()
        case None:
            return b""
        case _:
            return str(value).encode(errors="replace")


def json_object(text: Any) -> dict[str, Any]:
    """The object in a JSON text; empty when there is none that every reader reads alike."""
    try:
        found = strict_json.loads(text, limit=sys.maxsize)
    except (ValueError, TypeError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


def delivery_order(row: Row[Any]) -> tuple[float, int]:
    """Sorts rows: the most urgent first, then the oldest."""
    return -(as_number(row.priority) or 0), row.id


def as_number(value: Any) -> float | None:
    """The number in a numeric column; None for anything else."""
    return value if isinstance(value, int | float) and not math.isnan(value) else None

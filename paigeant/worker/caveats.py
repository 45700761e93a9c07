"""Warnings that a worker logs when it starts, about limitations of its broker that may surprise."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from paigeant.activity import Activity
from paigeant.transport import BaseTransport, Durability, Features


def caveats(transport: BaseTransport, activities: Collection[Activity[..., Any]]) -> list[str]:
    """Return the warnings, one sentence each; none for a broker that retains messages as long as needed."""
    found = []
    if transport.features.durability is Durability.BEST_EFFORT:
        found.append("this broker is best effort: messages may be lost or late when a worker dies")
    if too_long := outlasting(transport.features, activities):
        found.append(
            f"{too_long} may run longer than this broker waits for an acknowledgement "
            f"({transport.features.longest_hold:g} s): the broker would then deliver the message to another worker"
        )
    urgent = sorted(f"{one.name!r}" for one in activities if one.priority)
    if urgent and transport.features.disregards_priority:
        found.append(f"this broker delivers in order of arrival and ignores the priority of {', '.join(urgent)}")
    return found


async def limit_of(transport: BaseTransport, prefix: str, max_deliveries: int) -> str | None:
    """Return a warning about a broker that drops messages after too many deliveries, or None."""
    limit = await transport.delivery_limit(prefix)
    return None if limit is None else limited(limit, max_deliveries)


def limited(limit: int, max_deliveries: int) -> str:
    """Return the text that explains a delivery limit and says what to set."""
    copes = (
        "paigeant publishes a message again before that, at the end of its queue"
        if limit
        else "messages that a worker holds when it dies or loses its connection are lost"
    )
    return (
        f"this broker silently drops a message that was returned {limit} times (delivery-limit), and messages "
        f"become dead letters after {max_deliveries} deliveries: {copes}; set a policy that has no delivery-limit "
        '(from RabbitMQ 4 on: {"delivery-limit": -1})'
    )


def outlasting(features: Features, activities: Iterable[Activity[..., Any]]) -> str:
    """Name the activities whose timeout is longer than the broker lets a worker hold a delivery; may be empty."""
    limit = features.longest_hold
    if limit is None:
        return ""
    return ", ".join(sorted(f"{one.name!r}" for one in activities if one.timeout is not None and one.timeout >= limit))

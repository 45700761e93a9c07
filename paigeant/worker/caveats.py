"""What a worker is told as it starts, because its broker will not do what somebody may expect of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from paigeant.activity import Activity
from paigeant.transport import BaseTransport, Durability, Features


def caveats(transport: BaseTransport, activities: Collection[Activity[..., Any]]) -> list[str]:
    """Each in one sentence; none for a broker that keeps its messages as long as they are needed."""
    found = []
    if transport.features.durability is Durability.BEST_EFFORT:
        found.append("this broker is best effort: messages may be lost or late when a worker dies")
    if too_long := outlasting(transport.features, activities):
        found.append(
            f"{too_long} may run longer than this broker waits for an acknowledgement "
            f"({transport.features.longest_hold:g} s): it would take the message back and hand it out again"
        )
    urgent = sorted(f"{one.name!r}" for one in activities if one.priority)
    if urgent and transport.features.disregards_priority:
        found.append(f"this broker hands out what came first, whatever the priority of {', '.join(urgent)}")
    return found


def outlasting(features: Features, activities: Iterable[Activity[..., Any]]) -> str:
    """The activities whose timeout is longer than the broker lets a delivery be held, as text; empty for none."""
    limit = features.longest_hold
    if limit is None:
        return ""
    return ", ".join(sorted(f"{one.name!r}" for one in activities if one.timeout is not None and one.timeout >= limit))

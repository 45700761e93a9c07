"""Workflows that a step dispatched, when it is tried again: those that had failed are dispatched anew. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paigeant.records import Status, child_key

_CHILD = child_key("")
_TRIED = "tried"
"""What is said beside the end of a child that an earlier attempt was told."""


def with_old_failures(received: Mapping[str, Any]) -> dict[str, Any]:
    """What a step has received, for its next attempt: that of children which failed is marked."""
    return {
        key: [_marked(one) if key.startswith(_CHILD) else one for one in arrived] for key, arrived in received.items()
    }


def _marked(answer: dict[str, Any]) -> dict[str, Any]:
    has_failed = "value" in answer and answer["value"]["status"] != Status.COMPLETED.value
    return answer | {_TRIED: True} if has_failed else answer


def is_old_failure(received: Mapping[str, Any], child: str) -> bool:
    """Whether an earlier attempt was told that the workflow with this id has not completed."""
    return any(_TRIED in answer for answer in received.get(child_key(child), ()))

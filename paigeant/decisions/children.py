"""Child workflows of a step that is retried: children that failed are dispatched again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paigeant.records.workflow import Status
from paigeant.wire.message import child_key

_CHILD = child_key("")
_TRIED = "tried"
"""Marks the end of a child that an earlier attempt received."""


def with_old_failures(received: Mapping[str, Any]) -> dict[str, Any]:
    """The received values for the next attempt of a step: the ends of failed children are marked."""
    return {
        key: [_marked(one) if key.startswith(_CHILD) else one for one in arrived] for key, arrived in received.items()
    }


def _marked(answer: dict[str, Any]) -> dict[str, Any]:
    has_failed = "value" in answer and answer["value"]["status"] != Status.COMPLETED.value
    return answer | {_TRIED: True} if has_failed else answer


def is_old_failure(received: Mapping[str, Any], child: str) -> bool:
    """Whether an earlier attempt learned that the workflow with this id did not complete."""
    return any(_TRIED in answer for answer in received.get(child_key(child), ()))

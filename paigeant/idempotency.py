"""Idempotency keys: the same key with the same body is the same workflow, and with another body a mistake."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

from paigeant.errors import IdempotencyConflict
from paigeant.message import PaigeantMessage
from paigeant.records import KeyUse
from paigeant.slip import RoutingSlip

_DOES = {"id", "name", "arguments", "prompt", "deps"}
"""What a step is to do. Its options are left out: a service that is deployed with another timeout sends the same."""


def use_of(key: str, message: PaigeantMessage) -> KeyUse:
    """What a key stands for with which this message is dispatched."""
    return KeyUse(correlation_id=message.correlation_id, key=key, digest=digest(message))


def digest(message: PaigeantMessage) -> str:
    """A digest of what a workflow is to do: its name, its variables, and its steps with their arguments."""
    body = {"name": message.name, "slip": _body(message.routing_slip)}
    return blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()


def _body(slip: RoutingSlip) -> dict[str, Any]:
    steps = [
        step.model_dump(mode="json", include=_DOES) | {"branches": [_body(branch) for branch in step.branches]}
        for step in slip.itinerary
    ]
    done = [entry.model_dump(mode="json", include={"id", "name", "output"}) for entry in slip.log]
    return {"steps": steps, "done": done, "variables": slip.variables}


def refuse_other(use: KeyUse, first: KeyUse) -> None:
    """Raise IdempotencyConflict if the key was used for something else."""
    if use.digest != first.digest:
        raise IdempotencyConflict(
            f"idempotency key {use.key!r} stands for workflow {use.correlation_id}, which is to do something else",
            correlation_id=use.correlation_id,
            hint=f"use another key for another workflow; see: paigeant workflow {use.correlation_id}",
        )

"""Idempotency keys: the same key with the same body is the same workflow, and with another body a mistake."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b, sha256
from typing import Any

from paigeant.errors import IdempotencyConflict
from paigeant.records.workflow import KeyUse
from paigeant.wire.claim_check import Holder, as_json
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec, RoutingSlip
from paigeant.wire.user_token import claims_of

_DOES = {"id", "name", "arguments", "prompt", "deps"}
"""The fields of a step in a digest. Options are left out: a service with another timeout sends the same digest."""


def use_of(key: str, message: PaigeantMessage) -> KeyUse:
    """Return the use of an idempotency key with which this message is dispatched."""
    return KeyUse(correlation_id=message.correlation_id, key=key, digest=digest(message))


def digest(message: PaigeantMessage) -> str:
    """A digest of what a workflow is to do: its name, its variables, its steps with their arguments, and for whom."""
    body = {"name": message.name, "slip": _body(message.routing_slip)}
    if message.obo_token is not None:
        user = claimed_user(message.obo_token)
        body["user"] = [blake2b(message.obo_token.encode(), digest_size=16).hexdigest()] if user is None else [*user]
    return _digest(body)


def plan_digest(name: str, slip: Mapping[str, Any]) -> str:
    """Return a digest of the plan of a dispatched slip, whether its large values travel in it or are put aside.

    Unlike :func:`digest` it is compared at once and never stored, and it does not contain the user.
    """
    return _digest({"name": name, "slip": _plan(RoutingSlip.from_dict(dict(slip)))})


def _plan(slip: RoutingSlip) -> dict[str, Any]:
    steps = [_planned(step) for step in slip.itinerary]
    done = [{"id": entry.id, "name": entry.name, "values": _values(entry)} for entry in slip.log]
    return {"steps": steps, "done": done, "values": _values(slip)}


def _planned(step: ActivitySpec) -> dict[str, Any]:
    planned = {"id": step.id, "name": step.name, "when": step.to_dict().get("when"), "values": _values(step)}
    planned |= {"branches": [_plan(branch) for branch in step.branches]}
    return planned | ({"otherwise": [_planned(one) for one in step.otherwise]} if step.otherwise else {})


def _values(holder: Holder) -> dict[str, str]:
    """The SHA-256 of the JSON of each value, by path."""
    there = {path: sha256(as_json(value)).hexdigest() for path, value in holder.values().items()}
    return {path: kept.digest for path, kept in holder.kept.items()} | there


def _digest(body: Mapping[str, Any]) -> str:
    return blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()


def _body(slip: RoutingSlip) -> dict[str, Any]:
    steps = [_step(step) for step in slip.itinerary]
    done = [entry.model_dump(mode="json", include={"id", "name", "output"}) for entry in slip.log]
    return {"steps": steps, "done": done, "variables": slip.variables} | _digests(slip)


def _step(step: ActivitySpec) -> dict[str, Any]:
    done = step.model_dump(mode="json", include=_DOES) | _digests(step)
    done |= {"branches": [_body(branch) for branch in step.branches]}
    return done | ({"otherwise": [_step(one) for one in step.otherwise]} if step.otherwise else {})


def _digests(holder: Holder) -> dict[str, Any]:
    """Large values that are kept elsewhere, by their digests."""
    return {"kept": {path: one.model_dump(mode="json") for path, one in holder.kept.items()}} if holder.kept else {}


def claimed_user(token: str) -> tuple[str, str] | None:
    """Issuer and subject of a token, which stay when it is renewed; None if it cannot be read.

    Workers check the token; nobody trusts it here.
    """
    claims = claims_of(token)
    issuer, subject = claims.get("iss"), claims.get("sub")
    return (issuer, subject) if isinstance(issuer, str) and isinstance(subject, str) else None


def refuse_other(use: KeyUse, first: KeyUse) -> None:
    """Raise IdempotencyConflict if the key was used for something else."""
    if use.digest != first.digest:
        raise IdempotencyConflict(
            f"idempotency key {use.key!r} stands for workflow {use.correlation_id}, which is to do something else",
            correlation_id=use.correlation_id,
            hint=f"use another key for another workflow; see: paigeant workflow {use.correlation_id}",
        )


def refuse_other_plan(correlation_id: str, ours: str, theirs: str) -> None:
    """Raise IdempotencyConflict if a workflow of this id was dispatched with other steps, arguments or variables."""
    if ours != theirs:
        raise IdempotencyConflict(
            f"there is a workflow {correlation_id} already, and it does something else",
            correlation_id=correlation_id,
            hint=f"use another id for another workflow; see: paigeant workflow {correlation_id}",
        )

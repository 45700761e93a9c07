"""Decides whether a signed order about a whole workflow is believed, and whether a store claims other ones. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from paigeant.errors import Untrusted
from paigeant.records.trust import CANCEL, PAUSE, RESUME, Policy, Right
from paigeant.records.workflow import Standing, Status
from paigeant.wire.proof import Order, Signed


def judge_order(order: Order, key: str, policy: Policy) -> None:
    """Judge an order that this key signed.

    Raises:
        Untrusted: the key may not give it, it is for another deployment, or it names somebody else.
    """
    if order.aud != policy.audience:
        raise Untrusted("audience", f"the order is for {order.aud!r}, and this deployment is {policy.audience!r}")
    if order.by != key:
        raise Untrusted("other-name", f"the order names {order.by!r}, and key {key!r} signed it")
    if not policy.allows(key, Right.ORDER, order.what):
        raise Untrusted("order", f"key {key!r} may not {order.what}: no rule gives it that right")


def unordered(standing: Standing, found: Sequence[Signed[Order]], workflow: str, policy: Policy) -> Sequence[str]:
    """Return what a store claims about a workflow and nobody has ordered: ``cancel``, ``pause``, or both.

    The latest order to pause or resume counts. A cancellation is final.
    """
    orders = [one.statement for one in found if one.statement.wf == workflow and is_allowed(one, policy)]
    said = {one.what for one in orders}
    latest = max((one for one in orders if one.what in (PAUSE, RESUME)), key=lambda one: one.at, default=None)
    missing = list[str]()
    if (standing.cancellation is not None or standing.status is Status.CANCELLED) and CANCEL not in said:
        missing.append(CANCEL)
    if standing.status is Status.PAUSED and (latest is None or latest.what != PAUSE):
        missing.append(PAUSE)
    return missing


def is_allowed(order: Signed[Order], policy: Policy) -> bool:
    """Whether the key that signed the order may give it."""
    try:
        judge_order(order.statement, order.key, policy)
    except Untrusted:
        return False
    return True

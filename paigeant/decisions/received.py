"""Decides whether something came for a step that waits. Pure; see :mod:`paigeant.decisions.judge`.

A worker that wakes a step adds the value to the signed message, and needs no key for that. So each value needs its own
proof: an answer is signed by a key that may answer, and a timeout is believed when the signed time has come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paigeant.decisions.forward import OPERATOR, PAUSE
from paigeant.decisions.lock_names import KEYS
from paigeant.decisions.plan import TIMER
from paigeant.decisions.redrive import REDRIVEN
from paigeant.errors import Untrusted
from paigeant.records.trust import NO_PROOF, Doubt, Policy, Right
from paigeant.records.workflow import Held
from paigeant.wire.approval import KEY as APPROVAL
from paigeant.wire.approval import question_of
from paigeant.wire.arrivals import CHILD
from paigeant.wire.canonical import digest_of
from paigeant.wire.claim_check import Kept
from paigeant.wire.join import KEY as JOIN
from paigeant.wire.message import DEADLINE, PaigeantMessage, is_sleep
from paigeant.wire.proof import Answer, Chain, Did, Link, Signed

RETRY = "retry"
"""The order with which an operator runs a step again that waits for an operator."""

TOO_MUCH = "too-much"
"""The code of what came after something that is believed."""

_DELAYS = (TIMER, PAUSE, REDRIVEN, *KEYS)
"""The beginnings of keys for which nothing needs a proof: who forges what comes for them only delays the step."""

_TIMEOUT = {"timeout": True}


@dataclass(frozen=True, slots=True)
class Item:
    """A value that was received for a key: the entry, and the signed answer that proves it, if there is one."""

    key: str
    entry: Mapping[str, Any]
    answer: Signed[Answer] | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A message, and the doubts about the values that it is said to have received.

    ``ends`` are the keys under which it received ends of children and branches: the store has their proofs.
    """

    message: PaigeantMessage
    doubts: tuple[Doubt, ...] = ()
    ends: tuple[str, ...] = ()


def received(chain: Chain, item: Item, policy: Policy, now: float) -> None:
    """Judge what came for the step whose message this chain belongs to; ``now`` is epoch seconds.

    Raises:
        Untrusted: it did not come.
    """
    link = chain.latest.statement if chain.latest is not None else None
    if item.key == DEADLINE:
        _judge_due(chain.limits.get("deadline"), item, policy, now)
    elif item.key != awaited(chain):
        raise Untrusted("other-key", f"the step waits for {awaited(chain)!r}, and {item.key!r} came")
    elif link is None or item.key.startswith(_DELAYS):
        return
    elif item.entry == _TIMEOUT:
        _judge_due(link.due, item, policy, now)
    elif not item.key.startswith((JOIN, CHILD)):
        _judge_answer(chain, link, item, policy, now)


def awaited(chain: Chain) -> str:
    """Return the key of what the message waited for, as its latest link says."""
    latest = chain.latest
    return (latest.statement.key if latest is not None else None) or TIMER


def is_end(item: Mapping[str, Any]) -> bool:
    """Whether an item that a message received is the end of a child, or the ends of branches."""
    return str(item["key"]).startswith((JOIN, CHILD)) and item["entry"] != _TIMEOUT


def nothing_came(chain: Chain) -> Doubt | None:
    """Return the doubt about a message that was parked and has received nothing; None if it need not have."""
    latest, key = chain.latest, awaited(chain)
    if latest is None or latest.statement.did is not Did.PARKED or key.startswith(_DELAYS):
        return None
    return Doubt(key, "nothing-came", f"nothing came for {key!r}, and the message was published")


def waits_for_operator(chain: Chain | None, doubts: Sequence[Doubt]) -> str | None:
    """Return the key of a step that must not run, because no operator has let it; None for any other."""
    if chain is None or not doubts or any(one.code == TOO_MUCH for one in doubts):
        return None
    return key if (key := awaited(chain)).startswith(OPERATOR) else None


def _judge_due(due: Any, item: Item, policy: Policy, now: float) -> None:
    if item.entry != _TIMEOUT:
        raise Untrusted(NO_PROOF, f"what came for {item.key!r} is not signed")
    if not isinstance(due, int | float) or due > now + policy.leeway:
        raise Untrusted("not-due", f"the time of {item.key!r} is said to be up, and it is not")


def _judge_answer(chain: Chain, link: Link, item: Item, policy: Policy, now: float) -> None:
    if is_sleep(item.key):
        raise Untrusted("other-key", f"a value came for {item.key!r}, which is a time")
    if item.answer is None:
        raise Untrusted(NO_PROOF, f"what came for {item.key!r} is not signed")
    said, key = item.answer.statement, item.answer.key
    if (said.aud, said.wf, said.key) != (policy.audience, chain.plan.statement.wf, item.key):
        raise Untrusted("other-answer", f"the signature belongs to {said.key!r} of workflow {said.wf}")
    if said.iat > now + policy.leeway:
        raise Untrusted("from-the-future", "the answer was signed later than now: do the clocks agree?")
    if (found := _digest(item.entry)) is not None and found != said.value:
        raise Untrusted("other-value", f"the signature belongs to another value for {item.key!r}")
    judge_right(key, link, policy)
    if item.key.startswith(APPROVAL):
        _judge_approval(chain, link, item, policy)


def _digest(entry: Mapping[str, Any]) -> str | None:
    """Return the digest of the value; None for an error in its place, which says that the value is too large."""
    if "kept" in entry:
        return Kept.from_dict(entry["kept"]).planned
    return digest_of(entry["value"]) if "value" in entry else None


def judge_right(key: str, link: Link, policy: Policy) -> None:
    """Judge whether this key may answer what the step of this link waits for.

    Raises:
        Untrusted: it may not.
    """
    if (link.key or "").startswith(OPERATOR):
        if not policy.allows(key, Right.ORDER, RETRY):
            raise Untrusted("order", f"key {key!r} may not retry: no rule gives it that right")
    elif not policy.allows(key, Right.ANSWER, link.act):
        raise Untrusted("answer", f"key {key!r} may not answer steps of {link.act!r}: no rule gives it that right")


def judge_other_eyes(key: str, chain: Chain, link: Link, policy: Policy) -> None:
    """Judge whether this key is another one than the dispatcher's, if the activity needs that.

    Raises:
        Untrusted: whoever dispatched may not approve.
    """
    rule = policy.activities.get(link.act)
    if rule is not None and rule.four_eyes and key in {chain.root.key, chain.plan.key}:
        raise Untrusted("four-eyes", f"key {key!r} dispatched the workflow, so another one must approve {link.act!r}")


def _judge_approval(chain: Chain, link: Link, item: Item, policy: Policy) -> None:
    assert item.answer is not None, "the caller has looked"
    if link.ask is None or item.answer.statement.question != link.ask:
        raise Untrusted("other-question", f"the answer to {item.key!r} is about another question than the step asks")
    judge_other_eyes(item.answer.key, chain, link, policy)
    value = item.entry.get("value")
    if isinstance(value, Mapping) and value.get("by") != item.answer.key:
        raise Untrusted("other-name", f"the answer names {value.get('by')!r}, and key {item.answer.key!r} signed it")


def judge_shown(chain: Chain, waiting: Held, key: str, policy: Policy) -> None:
    """Judge a question before it is answered with ``key``: it is shown as it was asked, and the key may answer it.

    Raises:
        Untrusted: what a store shows is not what the step asks, or the answer would not be believed.
    """
    link = chain.latest.statement if chain.latest is not None else None
    if link is None or link.key != waiting.key:
        raise Untrusted("other-key", f"the message does not wait for {waiting.key!r}")
    judge_right(key, link, policy)
    if not waiting.key.startswith(APPROVAL):
        return
    shown = {name: value for name, value in (waiting.detail or {}).items() if name != "question"}
    said = chain.plan.statement
    if link.ask != question_of(said.wf, link.step, link.epoch, waiting.key, shown) or link.ask != waiting.question:
        raise Untrusted("other-question", "the store shows another question than the one that the step asks")
    judge_other_eyes(key, chain, link, policy)

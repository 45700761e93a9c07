"""The signed statements of a workflow prove its history, whoever writes to the store beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from paigeant.decisions.history import Proven, proven
from paigeant.errors import Untrusted
from paigeant.records.trust import Policy, Right, Rule
from paigeant.records.workflow import Status
from paigeant.wire.canonical import digest_of
from paigeant.wire.grant import Grant
from paigeant.wire.planned import PlannedStep
from paigeant.wire.proof import Did, Link, Origin, Plan, Signed

BODY = digest_of("body")
POLICY = Policy(
    "tests",
    {
        "shop": Rule("shop", {Right.DISPATCH: ("*",), Right.RUN: ("check", "ship"), Right.INSERT: ("*",)}),
        "bank": Rule("bank", {Right.RUN: ("charge",)}),
        "ops": Rule("ops", {Right.ORDER: ("redrive",)}),
    },
)


def step(id: str, name: str) -> PlannedStep:  # noqa: A002
    return PlannedStep(id, name, digest_of(name))


def signed(statement: Any, key: str) -> Signed[Any]:
    return Signed(statement, key, "token", digest_of(statement.to_claims()))


def plan(**more: Any) -> Signed[Plan]:
    steps = (step("1", "check"), step("2", "charge"), step("3", "ship"))
    said = {"iat": 100, "aud": "tests", "exp": 200, "wf": "w", "name": "order", "steps": steps, "msg": BODY}
    return signed(Plan(**said | more), "shop")


def chain(first: Signed[Plan], *said: dict[str, Any]) -> list[Signed[Link]]:
    """Links, each fixed to the one before unless it says otherwise; ``key`` is who signs."""
    links = list[Signed[Link]]()
    for one in said:
        after = one.pop("after", links[-1] if links else None)
        key = one.pop("by")
        n = (after.statement.n if after is not None else 0) + 1
        fixed = {"iat": 100, "plan": first.digest, "prev": after.digest if after is not None else None, "n": n}
        links.append(signed(Link(**fixed | one), key))
    return links


def check(**more: Any) -> dict[str, Any]:
    return {"by": "shop", "step": "1", "act": "check", "did": Did.COMPLETED, "out": digest_of(1)} | more


def charge(**more: Any) -> dict[str, Any]:
    return {"by": "bank", "step": "2", "act": "charge", "did": Did.COMPLETED, "out": digest_of(2)} | more


def ship(**more: Any) -> dict[str, Any]:
    said = {"by": "shop", "step": "3", "act": "ship", "did": Did.COMPLETED, "out": digest_of(3)}
    return said | {"end": "completed"} | more


def found(first: Signed[Plan], links: Sequence[Signed[Link]]) -> Proven:
    return proven(first, links, POLICY)


def test_a_whole_chain_proves_its_end_and_outputs() -> None:
    """In any order, and after the plan has expired."""
    first = plan()
    links = chain(first, check(did=Did.RETRIED, out=None), check(att=2), charge(undo={"2": BODY}), ship())
    it = found(first, links[::-1])
    assert (it.status, it.output) == (Status.COMPLETED, digest_of(3))
    assert [(id, one.key, one.out, one.att) for id, one in it.steps.items()] == [  # noqa: A001
        ("1", "shop", digest_of(1), 2),
        ("2", "bank", digest_of(2), 1),
        ("3", "shop", digest_of(3), 1),
    ]
    assert (it.undo, it.links) == ({"2": BODY}, tuple(links))


def test_a_chain_without_its_end_has_not_ended() -> None:
    first = plan()
    assert found(first, ()).status is None
    assert found(first, chain(first, check(), charge())).status is None


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("run", [check(), charge(by="shop")]),
        ("run", [check(by="stranger")]),
        ("skipped", [check(), ship()]),
        ("skipped", [check(), check()]),
        ("unplanned", [check(), charge(step="9")]),
        ("other-step", [check(), charge(act="check", by="shop")]),
        ("end", [check(end="completed", did=Did.RETRIED)]),
        ("end", [check(end="finished")]),
        ("over", [check(end="failed", did=Did.RETRIED), check()]),
        ("undo", [check(undo={"2": BODY})]),
        ("undo", [check(undo={"1": BODY}), charge(did=Did.TURNED, back=(step("1", "uncheck"),))]),
        ("order", [check(by="shop", did=Did.REDRIVEN, order="redrive", epoch=1)]),
    ],
)
def test_what_a_key_may_not_say_proves_nothing(code: str, said: list[dict[str, Any]]) -> None:
    first = plan()
    with pytest.raises(Untrusted) as refused:
        found(first, chain(first, *[dict(one) for one in said]))
    assert refused.value.code == code


def test_a_step_ends_its_workflow_early_if_it_may_edit() -> None:
    first, early = plan(), check(end="completed")
    assert found(first, chain(first, dict(early))).output == digest_of(1)
    first = plan(grant=Grant(editors=("ship",)))
    with pytest.raises(Untrusted, match="ended the workflow early"):
        found(first, chain(first, dict(early)))


def test_a_missing_link_is_noticed() -> None:
    first = plan()
    links = chain(first, check(), charge(), ship())
    for gone in range(2):
        with pytest.raises(Untrusted, match="is missing"):
            found(first, links[:gone] + links[gone + 1 :])


def test_links_of_another_plan_do_not_count() -> None:
    first, other = plan(), plan(name="refund")
    assert found(first, chain(other, check(), charge(), ship())).status is None


def test_an_order_takes_back_the_end_before_it() -> None:
    first = plan()
    one, failed = chain(first, check(), charge(did=Did.ENDED, out=None, end="failed"))
    assert found(first, [one, failed]).status is Status.FAILED
    order = charge(by="ops", did=Did.REDRIVEN, order="redrive", epoch=1, out=None, after=one)
    rest = chain(first, order, charge(epoch=1), ship(epoch=1))
    assert found(first, [one, failed, rest[0]]).status is None
    assert found(first, [one, failed, *rest]).status is Status.COMPLETED


def test_the_way_back_is_what_the_steps_recorded() -> None:
    first, uncheck = plan(), step("1", "uncheck")
    policy_allows = {"by": "shop", "step": "1", "act": "uncheck", "did": Did.UNDONE, "end": "compensated"}
    turned = charge(did=Did.TURNED, out=None, back=(uncheck,))
    links = chain(first, check(undo={"1": uncheck.digest}), turned, policy_allows)
    rules = {**POLICY.rules, "shop": Rule("shop", dict.fromkeys(Right, ("*",)))}
    it = proven(first, links, Policy("tests", rules))
    assert (it.status, it.output) == (Status.COMPENSATED, None)


def test_a_child_needs_the_plan_of_the_workflow_that_began_it() -> None:
    root = plan()
    origin = Origin(wf="w", plan=root.digest, step="1", act="check")
    child = plan(wf="c", origin=origin, steps=(step("1", "check"),))
    links = chain(child, check(end="completed"))
    assert proven(child, links, POLICY, (root,)).status is Status.COMPLETED
    with pytest.raises(Untrusted, match="missing"):
        proven(child, links, POLICY)

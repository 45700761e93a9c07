"""Which signed messages are trusted: honest courses of workflows, and every way to change one of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from services import ALL, KEYS, NOW, RAN, Deployment, Service, begun, bodies

from paigeant import ActivitySpec
from paigeant.decisions import forward
from paigeant.decisions.attest import Order
from paigeant.decisions.forward import decide
from paigeant.decisions.outcome import Completed, Edits, Faulted, Parked, Retrying
from paigeant.decisions.plan import Send, Settle
from paigeant.errors import KeysUnavailable, MessageError, Untrusted
from paigeant.events import ErrorInfo
from paigeant.security.jws import KeySigner, sign
from paigeant.security.keyring import State
from paigeant.wire import base64url
from paigeant.wire.canonical import digest
from paigeant.wire.frame import Frame, cut
from paigeant.wire.grant import Grant
from paigeant.wire.log import Undo
from paigeant.wire.proof import Kind

NO = ErrorInfo(type="ValueError", message="no")
SHOP = {**ALL, "run": ["check", "ship", "pack", "refund"], "insert": ["pack"]}
BANK = {"run": ["charge", "audit"], "insert": ["audit"]}

RIGHTS = {"shop": SHOP, "bank": BANK, "ops": {"order": ["redrive", "edit"]}, "thief": {}}


GREEDY = Deployment(dict.fromkeys(RIGHTS, ALL))
"""The same keys, and a policy with which each service may do everything."""


@pytest.fixture
def deployment() -> Deployment:
    return Deployment(RIGHTS)


@pytest.fixture
def shop(deployment: Deployment) -> Service:
    return deployment["shop"]


@pytest.fixture
def bank(deployment: Deployment) -> Service:
    return deployment["bank"]


@pytest.fixture
def thief(deployment: Deployment) -> Service:
    return deployment["thief"]


def frame(body: bytes) -> Frame:
    return cut(body, 10**6)


def claims(token: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64url.decode(token.split(".")[1]))
    return found


def code_of(service: Service, body: bytes, now: float = NOW) -> str:
    """The code with which the service refuses the message."""
    with pytest.raises((Untrusted, KeysUnavailable)) as refused:
        service.open(body, now)
    return refused.value.code if isinstance(refused.value, Untrusted) else "unknown-key"


def signed_plan(key: str, said: dict[str, Any], kind: Kind = Kind.PLAN) -> str:
    return sign(kind, said, KeySigner(f"{key}-1", KEYS[key]))


# --- honest courses --------------------------------------------------------------------------------------------------


def test_two_services_hand_a_workflow_to_each_other(shop: Service, bank: Service) -> None:
    """Each opens what the other has signed, with its variables and outputs; links do not pile up."""
    body = shop.begin("check", "charge", "ship", "charge", "ship")
    for turn in range(4):
        service = (shop, bank)[turn % 2]
        body = service.run(body, Completed(RAN, turn, {"turn": turn}))
        assert len(frame(body).links) == min(turn + 1, 2)
    message = shop.open(body)
    assert (message.step.name, message.routing_slip.variables) == ("ship", {"turn": 3})


def test_inserted_retried_and_parked_steps(shop: Service, bank: Service) -> None:
    body = shop.begin("check", "charge", "ship")
    body = shop.run(body, Completed(RAN, edits=Edits(insert=(ActivitySpec(name="pack", queue="q.pack"),))))
    assert shop.open(body).step.name == "pack"
    body = shop.run(body, Retrying(RAN, NO, 1.0))
    body = shop.run(body, Completed(RAN))
    body = bank.run(body, Retrying(RAN, NO, 1.0))
    body = bank.run(body, Completed(RAN))
    assert [one.name for one in shop.open(body).routing_slip.itinerary] == ["ship"]


def test_a_skipped_step_and_an_early_end(shop: Service, bank: Service) -> None:
    body = shop.begin("check", "charge", "ship", "check")
    body = shop.run(body, Completed(RAN, edits=Edits(skip=("ship",))))
    body = bank.run(body, Completed(RAN))
    assert [one.name for one in shop.open(body).routing_slip.itinerary] == ["check"]
    assert shop.packed(body, Completed(RAN)).link is not None


def test_the_way_back_over_two_services(shop: Service, bank: Service) -> None:
    """Each compensation is what its step said when it completed."""
    body = shop.begin("check", "charge", "ship")
    body = shop.run(body, Completed(RAN, undo=Undo(queue="q.check", arguments={"n": 1})))
    body = bank.run(body, Completed(RAN, undo=Undo(queue="q.charge")))
    body = shop.run(body, Faulted(RAN, NO))
    message = bank.open(body)
    assert (message.routing_slip.is_back, message.step.name) == (True, "charge")
    body = bank.run(body, Completed(RAN))
    assert shop.open(body).step.arguments == {"n": 1}


def test_an_operator_sends_a_failed_step_again_and_edits_it(deployment: Deployment, shop: Service) -> None:
    body = shop.begin(ActivitySpec(name="check", arguments={"n": 1}), "charge")
    ops = deployment["ops"]
    message = ops.open(body)
    step = message.step.changed("arguments", {"n": 2})
    slip = message.routing_slip.model_copy(update={"itinerary": (step, *message.routing_slip.itinerary[1:])})
    edited = message.model_copy(update={"routing_slip": slip})
    [body] = bodies(ops.settled(message, Settle(send=(Send(edited),)), Order("edit")))
    assert shop.open(body).step.arguments == {"n": 2}
    assert code_of(shop, bodies(shop.settled(message, Settle(send=(Send(edited),))))[0]) == "itinerary"
    thief = deployment["thief"]
    assert code_of(shop, bodies(thief.settled(message, Settle(send=(Send(edited),)), Order("edit")))[0]) == "order"


# --- what is refused -------------------------------------------------------------------------------------------------


def test_every_byte_counts(shop: Service, bank: Service) -> None:
    """A changed byte of plan, link or message is refused; one of the frame around them, too."""
    body = shop.run(shop.begin("check", "charge"), Completed(RAN, 1))
    for at in range(0, len(body), 7):
        changed = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        with pytest.raises((MessageError, KeysUnavailable)):
            bank.open(changed)
    for at in range(0, len(body), 11):
        with pytest.raises((MessageError, KeysUnavailable)):
            bank.open(body[:at])


def test_a_workflow_that_nobody_may_dispatch(bank: Service, shop: Service) -> None:
    """It is refused where it is begun, and by everybody else if its service gives itself the right."""
    with pytest.raises(Untrusted, match="may not dispatch") as refused:
        bank.begin("check")
    assert 'dispatch = ["*"]' in (refused.value.hint or "")
    assert code_of(shop, GREEDY["bank"].begin("check")) == "dispatch"


def test_a_fork_needs_the_right_to_it(deployment: Deployment, bank: Service) -> None:
    """The right to dispatch is not enough, and not needed."""
    message = begun("check")
    ops = Deployment({**RIGHTS, "ops": {"order": ["fork"]}})
    [forked] = [one.body for one in ops["ops"].packing.begun(Send(message), NOW, forked="other").outgoing]
    assert ops["bank"].open(forked).step.name == "check"
    assert code_of(bank, forked) == "order"
    with pytest.raises(Untrusted, match="may not fork"):
        Deployment({"bank": {"dispatch": ["*"]}})["bank"].packing.begun(Send(message), NOW, forked="other")


def test_an_unknown_key() -> None:
    strangers = Deployment({"shop": SHOP})
    body = GREEDY["bank"].begin("check")
    assert code_of(strangers["shop"], body) == "unknown-key"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"aud": "elsewhere"}, "audience"),
        ({"aud": ["tests"]}, "claims"),
        ({"exp": None}, "claims"),
        ({"exp": str(int(NOW) + 9)}, "claims"),
        ({"exp": int(NOW) - 100}, "expired"),
        ({"exp": int(NOW) + 100 * 365 * 86_400}, "max-age"),
        ({"iat": int(NOW) + 1_000}, "from-the-future"),
        ({"v": 2}, "claims"),
        ({"wf": "other"}, "other-workflow"),
        ({"name": "other"}, "other-workflow"),
        ({"scope": "everything"}, None),
        ({"grant": {"steps": 7}}, "grant"),
        ({"limits": {"deadline": 5.0}}, "limits"),
    ],
)
def test_what_a_plan_says(shop: Service, changed: dict[str, Any], code: str | None) -> None:
    """Even whoever may dispatch can only say what the message bears out."""
    body = shop.begin("check", "charge")
    said = {name: value for name, value in (claims(frame(body).plan) | changed).items() if value is not None}
    signed = replace(frame(body), plan=signed_plan("shop", said)).to_bytes()
    assert (code_of(shop, signed) if code else shop.open(signed).name) == (code or "")


def test_a_plan_for_other_steps(shop: Service) -> None:
    """Another argument, another step, another order, a step more or less: the digests differ."""
    first, second = shop.begin("check", "charge"), frame(shop.begin("charge", "check"))
    said = claims(frame(first).plan) | {"steps": claims(second.plan)["steps"]}
    assert code_of(shop, replace(frame(first), plan=signed_plan("shop", said)).to_bytes()) == "itinerary"
    fewer = said | {"steps": claims(frame(first).plan)["steps"][:1]}
    assert code_of(shop, replace(frame(first), plan=signed_plan("shop", fewer)).to_bytes()) == "itinerary"
    other = frame(shop.begin(ActivitySpec(name="check", arguments={"n": 1}), "charge"))
    said = claims(frame(first).plan) | {"steps": claims(other.plan)["steps"]}
    assert code_of(shop, replace(frame(first), plan=signed_plan("shop", said)).to_bytes()) == "other-step"


def test_another_kind_of_statement(shop: Service) -> None:
    """A plan signed as a link, and a link as a plan, are neither."""
    body = shop.run(shop.begin("check", "charge"), Completed(RAN))
    cutted = frame(body)
    as_link = signed_plan("shop", claims(cutted.plan), Kind.LINK)
    assert code_of(shop, replace(cutted, plan=as_link).to_bytes()) == "type"
    assert code_of(shop, replace(cutted, links=(cutted.plan,)).to_bytes()) == "type"
    as_order = signed_plan("shop", claims(cutted.links[0]), Kind.ORDER)
    assert code_of(shop, replace(cutted, links=(as_order,)).to_bytes()) == "type"


def test_links_of_another_workflow(shop: Service, bank: Service) -> None:
    one = shop.run(shop.begin("check", "charge", id="one"), Completed(RAN))
    other = shop.run(shop.begin("check", "charge", id="other"), Completed(RAN))
    spliced = replace(frame(one), links=frame(other).links, message=frame(other).message).to_bytes()
    assert code_of(bank, spliced) == "other-plan"
    assert code_of(bank, replace(frame(one), links=()).to_bytes()) == "other-message"
    doubled = replace(frame(one), links=frame(one).links * 2).to_bytes()
    assert code_of(bank, doubled) == "order-of-links"


def test_a_service_does_not_run_the_step_of_another(shop: Service, bank: Service, thief: Service) -> None:
    """It can sign whatever it likes: its key has no right to the activity."""
    body = shop.begin("check", "charge", "ship")
    assert code_of(bank, thief.run(body, Completed(RAN))) == "run"
    assert code_of(shop, bank.run(body, Completed(RAN))) == "run"


def test_a_service_does_not_skip_the_step_of_another(shop: Service, bank: Service) -> None:
    """Not with a link for a later step of its own, and not by leaving the step out."""
    body = shop.begin("check", "charge", "ship", "check")
    ahead = shop.open(body)
    later = ahead.routing_slip.model_copy(update={"itinerary": ahead.routing_slip.itinerary[2:]})
    skipped = shop.settled(ahead.model_copy(update={"routing_slip": later}).coming_with(ahead.chain), _completed(ahead))
    assert code_of(shop, bodies(skipped)[0]) == "skipped"


def _completed(message: Any) -> Any:
    slip = message.routing_slip
    later = slip.model_copy(update={"itinerary": slip.itinerary[2:]})
    return decide(message.model_copy(update={"routing_slip": later}).coming_with(message.chain), Completed(RAN))


INSERTED: list[tuple[str, Callable[[], Grant], ActivitySpec, str]] = [
    ("without the right", Grant, ActivitySpec(name="charge", queue="q.charge"), "insert"),
    ("by no editor", lambda: Grant(editors=("ship",)), ActivitySpec(name="pack", queue="q.pack"), "grant"),
    ("beyond the count", lambda: Grant(steps=0), ActivitySpec(name="pack", queue="q.pack"), "grant"),
    ("beyond the depth", lambda: Grant(depth=0), ActivitySpec(name="pack", queue="q.pack"), "grant"),
    ("of another activity", lambda: Grant(activities=("ship",)), ActivitySpec(name="pack", queue="q.pack"), "grant"),
]


@pytest.mark.parametrize(("grant", "step", "code"), [one[1:] for one in INSERTED], ids=[one[0] for one in INSERTED])
def test_insertions_beyond_what_is_allowed(
    shop: Service, grant: Callable[[], Grant], step: ActivitySpec, code: str
) -> None:
    """Whatever the engine of the service that inserts would refuse: the next one looks again."""
    body = shop.begin("check", "ship", grant=grant())
    message = shop.open(body)
    plan = forward._advance(message, Completed(RAN, edits=Edits(insert=(step,))))
    [follower] = bodies(shop.settled(message, plan))
    assert code_of(shop, follower) == code


def test_a_token_of_another_user(shop: Service) -> None:
    body = shop.begin(message=begun("check", "charge", obo_token="a.b.c"))
    assert shop.open(body).obo_token == "a.b.c"
    said = claims(frame(body).plan)
    assert said["cth"]
    assert (
        code_of(shop, replace(frame(body), plan=signed_plan("shop", said | {"cth": "A" * 43})).to_bytes())
        == "other-token"
    )


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ({"state": State.NEXT}, None),
        ({"state": State.RETIRED, "until": NOW + 1}, None),
        ({"state": State.RETIRED, "until": NOW - 10}, "retired"),
        ({"state": State.REVOKED}, "revoked"),
    ],
)
def test_the_state_of_a_key(state: dict[str, Any], code: str | None) -> None:
    deployment = Deployment(RIGHTS, states={"shop": state})
    body = Deployment(RIGHTS)["shop"].begin("check")
    if code is None:
        assert deployment["bank"].open(body).step.name == "check"
    else:
        assert code_of(deployment["bank"], body) == code


def test_a_message_that_a_plan_outlives(shop: Service) -> None:
    body = shop.begin("check")
    assert code_of(shop, body, NOW + 31 * 86_400) == "expired"


def test_a_child_has_no_more_than_its_root(shop: Service, bank: Service) -> None:
    """The plan of a step's workflow is signed by its worker, and names its parent's."""
    body = shop.begin("check", "charge", grant=Grant(activities=("pack",)))
    message = shop.open(body)
    child = begun("pack", id="child", grant=Grant(activities=("pack",))).model_copy(update={"parent": "wf"})
    packed = shop.settled(message, Settle(begin=(child,)))
    [first] = [one.body for one in packed.outgoing]
    assert shop.open(first).correlation_id == "child"
    wider = begun("pack", id="child", grant=Grant()).model_copy(update={"parent": "wf"})
    [first] = [one.body for one in shop.settled(message, Settle(begin=(wider,))).outgoing]
    assert code_of(shop, first) == "grant"
    other = begun("charge", id="child", grant=Grant(activities=("pack",))).model_copy(update={"parent": "wf"})
    [first] = [one.body for one in shop.settled(message, Settle(begin=(other,))).outgoing]
    assert code_of(shop, first) == "insert"
    assert code_of(shop, replace(frame(first), above=()).to_bytes()) == "other-plan"


def test_a_parked_step_waits_for_its_key_only(shop: Service) -> None:
    body = shop.run(shop.begin("check"), Parked(RAN, "signal:go"))
    link = shop.notary.open(body, NOW).chain.latest
    assert link is not None
    assert link.statement.key == "signal:go"
    [doubt] = shop.notary.open(body, NOW).doubts
    assert doubt.key == "signal:go"


def test_nothing_inside_a_message_is_signed_twice(shop: Service) -> None:
    """A frame is no message: one inside another is refused."""
    inner = shop.begin("check")
    plan = claims(frame(inner).plan) | {"msg": digest(inner)}
    nested = Frame(signed_plan("shop", plan), (), inner).to_bytes()
    with pytest.raises(MessageError, match="inside another"):
        shop.open(nested)


def test_claims_that_no_statement_has(shop: Service) -> None:
    """A later release may add some: they are kept and do no harm."""
    body = shop.begin("check")
    said = claims(frame(body).plan) | {"later": 1}
    assert shop.open(replace(frame(body), plan=signed_plan("shop", said)).to_bytes()).step.name == "check"

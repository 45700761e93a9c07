"""Services with keys of their own that hand signed messages to each other, without a broker or a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from paigeant import ActivitySpec, Grant, PaigeantMessage, RoutingSlip
from paigeant.decisions.attest import Order
from paigeant.decisions.forward import decide
from paigeant.decisions.outcome import Execution, Outcome
from paigeant.decisions.plan import Send, Settle
from paigeant.dispatch.packing import Packed, Packing
from paigeant.events import Event, MessageHeld, WorkflowDispatched
from paigeant.records.trust import ActivityRule, Policy, Right, Rule
from paigeant.security.jws import KeySigner
from paigeant.security.keyring import Given, Keyring, KnownKey
from paigeant.security.notary import Mode, Notary
from paigeant.transport import Durability, Features
from paigeant.wire import codec

NOW = 1_796_000_000.0
LIMIT = 1_000_000
RAN = Execution(worker="w", deliveries=1, started_at=NOW, finished_at=NOW)
ALL: Mapping[str, Sequence[str]] = {right.value: ["*"] for right in Right}

KEYS = {
    name: Ed25519PrivateKey.from_private_bytes(name.ljust(32).encode()) for name in ("shop", "bank", "ops", "thief")
}
"""The private keys of all services, always the same ones."""


def decoded(body: bytes) -> PaigeantMessage:
    return codec.decode(body, LIMIT)


@dataclass
class Service:
    """One service: it signs with its key, and packs as an App with a store does."""

    name: str
    notary: Notary
    packing: Packing

    def begin(self, *steps: ActivitySpec | str, **about: Any) -> bytes:
        """The first message of a workflow that this service dispatches."""
        message = about.pop("message", None) or begun(*steps, **about)
        packed = self.packing.begun(Send(message), NOW)
        return packed.outgoing[0].body

    def open(self, body: bytes, now: float = NOW) -> PaigeantMessage:
        """The message, once it is trusted."""
        return self.notary.opened(body, now, decoded).message

    def packed(self, body: bytes, outcome: Outcome, now: float = NOW) -> Packed:
        """Return the messages and facts of this service after the step of this message has ended so."""
        message = self.open(body, now)
        return self.settled(message, decide(message, outcome))

    def settled(self, message: PaigeantMessage, plan: Any, order: Order | None = None) -> Packed:
        assert isinstance(plan, Settle)
        return self.packing.packed(plan, NOW, message, order)

    def run(self, body: bytes, outcome: Outcome, now: float = NOW) -> bytes:
        """The message that follows, published or parked."""
        [follower] = bodies(self.packed(body, outcome, now))
        return follower


def bodies(packed: Packed) -> list[bytes]:
    """The messages of a settlement: those that follow, and those of workflows that begin."""
    return [one.body for one in packed.outgoing] + [one.body for one in packed.facts if isinstance(one, MessageHeld)]


def children(packed: Packed) -> list[Event]:
    return [one for one in packed.facts if isinstance(one, WorkflowDispatched)]


def begun(*steps: ActivitySpec | str, variables: Mapping[str, Any] | None = None, **about: Any) -> PaigeantMessage:
    """The first message of a workflow of these steps."""
    specs = [ActivitySpec(name=step) if isinstance(step, str) else step for step in steps]
    itinerary = tuple(
        one.model_copy(update={"id": str(at), "queue": f"q.{one.name}"}) for at, one in enumerate(specs, 1)
    )
    grant = about.pop("grant", Grant())
    slip = RoutingSlip(itinerary=itinerary, variables=variables or {}, grant=grant)
    return PaigeantMessage(routing_slip=slip, correlation_id=about.pop("id", "wf"), **about)


@dataclass
class Deployment:
    """Services with one policy. ``rights`` are the rights of each service, by name."""

    rights: Mapping[str, Mapping[str, Sequence[str]]]
    audience: str = "tests"
    activities: Mapping[str, ActivityRule] = field(default_factory=dict)
    mode: Mode = Mode.REQUIRED
    states: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = {
            f"{name}-1": KnownKey(f"{name}-1", name, KEYS[name].public_key(), **self.states.get(name, {}))
            for name in self.rights
        }
        self.keyring = Keyring(Given(known))
        self.keyring.refresh()
        rules = {
            name: Rule(name, {Right(right): tuple(patterns) for right, patterns in rights.items()})
            for name, rights in self.rights.items()
        }
        self.policy = Policy(self.audience, rules, self.activities)

    def __getitem__(self, name: str) -> Service:
        """The service of this name; one that the policy does not know signs all the same."""
        notary = Notary(
            mode=self.mode,
            signer=KeySigner(f"{name}-1", KEYS[name]),
            name=name,
            keyring=self.keyring,
            policy=self.policy,
            app=name,
            lifetime=self.policy.max_age,
            limit=LIMIT,
        )
        packing = Packing(
            features=Features(durability=Durability.AT_LEAST_ONCE, delay=True),
            has_store=True,
            has_keeper=False,
            app=name,
            prefix="q",
            message_limit=LIMIT,
            large=LIMIT,
            value_limit=LIMIT,
            step_limit=10_000,
            owner=None,
            notary=notary,
        )
        return Service(name, notary, packing)

"""What is signed, as values: plans, links, orders and answers.

A plan is what in-toto calls a layout, and a link is what it calls a link: a statement of whoever did one step about
what went in and what came out. Both travel as compact JWS (RFC 7515). This module has their claims, and checks their
shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Generic, Literal

from pydantic import BeforeValidator, Field, PlainSerializer
from typing_extensions import TypeVar

from paigeant.wire.grant import Grant
from paigeant.wire.model import Label, WireModel
from paigeant.wire.planned import PlannedStep

Digest = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]
"""A SHA-256 as base64url without padding."""

Seconds = Annotated[int, Field(ge=0, le=253_402_300_799, strict=True)]
"""Epoch seconds, as whole numbers: until the end of the year 9999."""

Count = Annotated[int, Field(ge=0, le=1_000_000_000, strict=True)]

Planned = Annotated[
    PlannedStep,
    BeforeValidator(lambda data: data if isinstance(data, PlannedStep) else PlannedStep.read(data)),
    PlainSerializer(lambda step: step.to_json()),
]


class Kind(StrEnum):
    """The kinds of signed statements. Each place where one is read accepts one kind only."""

    PLAN = "plan"
    LINK = "link"
    ORDER = "order"
    ANSWER = "answer"
    UNIT = "unit"
    OFFER = "offer"
    CHECKPOINT = "checkpoint"
    ASSERTION = "assertion"


class Did(StrEnum):
    """How the attempt of a step ended that a link is about."""

    COMPLETED = "completed"
    RETRIED = "retried"
    PARKED = "parked"
    REPLACED = "replaced"
    """It failed, and its replacements (``otherwise``) take its place."""
    TURNED = "turned"
    """It failed or was cancelled, and the workflow is compensated."""
    UNDONE = "undone"
    LEFT = "left"
    """Its compensation failed for good."""
    REDRIVEN = "redriven"
    """Its message was set aside, and an operator sent it again, in the next epoch."""
    EDITED = "edited"
    """Its message was set aside, and an operator changed it there."""
    ENDED = "ended"
    """It failed or was cancelled, and with it the workflow ended."""


class Statement(WireModel):
    """Base of what is signed. ``v`` is the version of the claims: a reader refuses a higher one."""

    KIND: ClassVar[Kind]

    v: Literal[1] = 1
    iat: Seconds

    def to_claims(self) -> dict[str, Any]:
        """Return the claims as JSON types, without those that say nothing."""
        return {"v": self.v, **self.model_dump(mode="json", exclude_defaults=True)}


class Origin(WireModel):
    """The step that began a workflow: of which workflow, with which plan (its digest), which step and activity.

    Of a planned branch ``form`` is the form of the step that scattered it, and ``place`` the branch's place there.
    """

    wf: Label
    plan: Digest
    step: Label
    act: Label
    form: dict[str, Any] | None = None
    place: Count | None = None


class Joined(WireModel):
    """The join that a step waits for: how many branches it has, and how many must complete (null: all must end).

    ``places`` are the places of the branches in the scatter; without them they are 0, 1, 2 and so on.
    """

    total: Count
    needed: Count | None = None
    places: tuple[Count, ...] = ()


class Plan(Statement):
    """Who begins which workflow, for whom, with which steps and authority; signed once, by whoever dispatches it.

    ``aud`` is the deployment, ``exp`` the time from which nothing of the workflow is believed any more. ``sub`` and
    ``scope`` are those of the user, ``cth`` the digest of the user's token. ``limits`` are further fields of the
    message that no later message may change. ``msg`` is the digest of the first message. A workflow begun by a step
    names its ``origin``.
    """

    KIND: ClassVar = Kind.PLAN

    aud: Label
    exp: Seconds
    wf: Annotated[Label, Field(min_length=1)]
    name: Label = ""
    app: Label = ""
    sub: Label | None = None
    scope: str | None = None
    cth: Digest | None = None
    steps: tuple[Planned, ...]
    vars: Digest | None = None
    grant: Grant = Grant()
    limits: dict[str, Any] = Field(default_factory=dict)
    msg: Digest
    origin: Origin | None = None
    forked: Label | None = None

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes that the workflow may use."""
        return frozenset((self.scope or "").split())


class Link(Statement):
    """How one attempt of a step ended, and what follows; signed by the worker that ran it.

    With ``order`` it is an order: what an operator did to the message of the step (``redriven``, ``edited``,
    ``discarded``), signed by the operator; ``limits`` are those of the plan that the operator has changed.

    ``plan`` and ``prev`` are digests of the plan and of the link before, ``n`` counts the links of a workflow. ``out``
    and ``vars`` are the digests of the output and of the changed variables (null: deleted). ``undo`` are the
    compensations that follow from it, by the id of the step that each takes back. ``ins`` are inserted steps, or those
    that take the step's place; ``skip`` are the ids of steps that are left out. ``back`` are the compensations of a
    workflow that turns back. ``begin`` are the digests of the plans of workflows it began, by id. ``msg`` is the
    digest of the next message; ``key`` and ``due`` say what a parked one waits for, ``ask`` is the digest of the
    question that it asks, and ``join`` says how many branches it waits for. ``begin`` does not list branches: their
    ids follow from the join. ``end`` is the status with which the workflow ended.
    """

    KIND: ClassVar = Kind.LINK

    plan: Digest
    prev: Digest | None = None
    n: Count
    step: Label
    act: Label
    did: Did
    epoch: Count = 0
    att: Count = 1
    out: Digest | None = None
    vars: dict[str, Digest | None] = Field(default_factory=dict)
    undo: dict[Label, Digest] = Field(default_factory=dict)
    ins: tuple[Planned, ...] = ()
    skip: tuple[Label, ...] = ()
    back: tuple[Planned, ...] = ()
    begin: dict[Label, Digest] = Field(default_factory=dict)
    msg: Digest | None = None
    key: Label | None = None
    ask: Label | None = None
    due: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    join: Joined | None = None
    end: Label | None = None
    order: Label | None = None
    limits: dict[str, Any] = Field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """The kind under which it is signed."""
        return Kind.LINK if self.order is None else Kind.ORDER

    @property
    def stays(self) -> bool:
        """Whether the next message is of the same step."""
        return self.did in (Did.RETRIED, Did.PARKED, Did.REDRIVEN, Did.EDITED)

    @property
    def amends(self) -> bool:
        """Whether it changes which steps follow."""
        return bool(self.ins or self.skip or self.back)


class Answer(Statement):
    """A signal, or the decision about a question; signed by whoever gives it.

    ``value`` is the digest of what was given for ``key``, ``question`` the digest of what was asked. ``by`` is the
    person for whom the signer vouches.
    """

    KIND: ClassVar = Kind.ANSWER

    aud: Label
    wf: Label
    key: Label
    value: Digest
    by: Label = ""
    question: str | None = None


class JournalEntry(Statement):
    """A finished unit of an agent step, signed by the worker that paid for it.

    ``key`` is its place in the journal of the step, ``asked`` the digest of its input, ``value`` that of its result,
    and ``used`` that of its usage.
    """

    KIND: ClassVar = Kind.UNIT

    aud: Label
    wf: Label
    step: Label
    epoch: Count = 0
    key: str
    name: str
    asked: str
    value: Digest
    used: Digest


class Announced(Statement):
    """A worker serves this activity. ``offer`` is the digest of the whole announcement."""

    KIND: ClassVar = Kind.OFFER

    aud: Label
    act: Label
    offer: Digest


class Order(Statement):
    """An operator cancels, pauses or resumes a workflow and its children; signed by the operator.

    An order about one message is a :class:`Link`. Both are signed as the same kind, so each reader refuses the claims
    of the other. ``what`` is the right that it needs, ``by`` the name of the key, ``at`` epoch seconds.
    """

    KIND: ClassVar = Kind.ORDER

    aud: Label
    wf: Label
    what: Annotated[Label, Field(min_length=1)]
    by: Annotated[Label, Field(min_length=1)]
    at: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    reason: Annotated[str, Field(max_length=500)] = ""
    compensate: bool = False


S = TypeVar("S", bound=Statement, covariant=True)


@dataclass(frozen=True, slots=True)
class Signed(Generic[S]):
    """A statement whose signature is right: ``key`` is the name of the service or person whose key signed ``token``."""

    statement: S
    key: str
    token: str = field(repr=False)
    digest: Digest


@dataclass(frozen=True, slots=True)
class Chain:
    """The signed statements of one message: its plan, the plans of its ancestors (the root first), and its links."""

    plan: Signed[Plan]
    above: tuple[Signed[Plan], ...] = ()
    links: tuple[Signed[Link], ...] = ()

    @property
    def root(self) -> Signed[Plan]:
        """The plan at the beginning of the family."""
        return self.above[0] if self.above else self.plan

    @property
    def latest(self) -> Signed[Link] | None:
        """The link whose message this is; None for the first message of a workflow."""
        return self.links[-1] if self.links else None

    @property
    def turned(self) -> Signed[Link] | None:
        """The link that lists the compensations: where the workflow turned back, or where they were redriven."""
        return next((one for one in reversed(self.links) if one.statement.back), None)

    @property
    def limits(self) -> Mapping[str, Any]:
        """The fields that the message must have: those of the plan, as orders have changed them."""
        limits = self.plan.statement.limits
        for one in self.links:
            if one.statement.order is not None:
                limits = limits | one.statement.limits
        return limits

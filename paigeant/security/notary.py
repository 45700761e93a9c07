"""Signs the messages that this process writes, and opens those that it receives.

What is decided is in :mod:`paigeant.decisions.judge` and :mod:`paigeant.decisions.attest`; here are the keys and the
memory. Plans that were verified, and links that this process signed or verified, are remembered by their digests until
keys or policy change. So the usual hop verifies one signature, and of what this process signed itself none.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import ValidationError

from paigeant.decisions.attest import Order as MessageOrder
from paigeant.decisions.attest import Verified, carried, link_of, plan_of
from paigeant.decisions.evidence import entry_of, judge_unit
from paigeant.decisions.judge import course, judge_beginning, origin, steps_of
from paigeant.decisions.orders import judge_order
from paigeant.decisions.plan import Settle
from paigeant.decisions.received import TOO_MUCH, Item, Opened, is_end, judge_shown, nothing_came, received
from paigeant.errors import KeysUnavailable, MalformedMessage, Untrusted
from paigeant.records.journal import Turn, Unit
from paigeant.records.offer import Offer
from paigeant.records.trust import NO_PROOF, Doubt, Policy, Right
from paigeant.records.workflow import Held
from paigeant.security.jws import BadSignature, Signer, is_of, kid_of, sign, unchecked, verify
from paigeant.security.keyring import Keyring
from paigeant.wire import codec, strict_json
from paigeant.wire.canonical import canonical, digest, digest_of
from paigeant.wire.frame import Frame, cut, is_frame
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.proof import Announced, Answer, Chain, JournalEntry, Kind, Link, Order, Plan, Signed, Statement

_REMEMBERED = 10_000
"""Number of verified statements that are remembered."""

_LARGEST_CLAIMS = 65_536
_LARGEST_SHOWN = 4_096
_LONGEST_REASON = 500

S = TypeVar("S", bound=Statement)


class Mode(StrEnum):
    """What a process does about signatures."""

    OFF = "off"
    """It signs nothing and verifies nothing."""
    ACCEPT = "accept"
    """It signs, verifies what is signed, and accepts what is not."""
    REQUIRED = "required"
    """It signs, and accepts nothing that is not signed."""
    SHARED = "shared"
    """As required, with one secret that all members of a team have. It cannot tell them apart."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed message whose signatures are right: the message's bytes, its statements, and what it received.

    ``doubts`` are about what it is said to have received, and is not believed.
    """

    body: bytes
    chain: Chain
    received: tuple[dict[str, Any], ...] = ()
    doubts: tuple[Doubt, ...] = ()

    def message(self, decoded: Callable[[bytes], PaigeantMessage]) -> PaigeantMessage:
        """Return the message, which ``decoded`` reads, with what it received.

        Raises:
            MessageError: the bytes are no message.
        """
        if is_frame(self.body):
            raise MalformedMessage("not a paigeant message: a signed message is inside another one")
        return codec.receiving(decoded(self.body), self.received)


@dataclass(slots=True)
class Notary:
    """Signs for one App and verifies for it. ``name`` is the name of the key, by which the policy knows it.

    ``lifetime`` is the time, in seconds, for which the plans of this App are valid.
    """

    mode: Mode
    signer: Signer
    name: str
    keyring: Keyring
    policy: Policy
    app: str
    lifetime: float
    limit: int
    _memory: OrderedDict[str, Signed[Any]] = field(default_factory=OrderedDict, repr=False)
    _edition: int = -1

    @property
    def is_strict(self) -> bool:
        """Whether a message that is not signed is refused."""
        return self.mode in (Mode.REQUIRED, Mode.SHARED)

    # --- writing ---------------------------------------------------------------------------------------------------

    def begin(
        self,
        message: PaigeantMessage,
        body: bytes,
        at: float,
        by: Verified | None = None,
        *,
        subject: str | None = None,
        scopes: Any = (),
        forked: str | None = None,
    ) -> Frame:
        """Return the first message of a workflow with its plan. ``by`` is the step that begins it, if one does.

        Raises:
            Untrusted: the key of this App may not begin such a workflow.
        """
        plan = plan_of(
            message,
            digest(body),
            audience=self.policy.audience,
            at=at,
            until=at + self.lifetime,
            app=self.app,
            subject=subject,
            scopes=scopes,
            by=by,
            forked=forked,
        )
        if by is None and self.is_strict:
            judge_beginning(plan, self.name, self.policy)
        signed = self._sign(Kind.PLAN, plan)
        above = (*by.chain.above, by.chain.plan) if by is not None else ()
        return Frame(signed.token, (), body, above=tuple(one.token for one in above))

    def follow(
        self,
        by: Verified,
        settle: Settle,
        at: float,
        after: PaigeantMessage,
        body: bytes,
        begun: Mapping[str, str],
        order: MessageOrder | None = None,
    ) -> Frame:
        """Return the message that follows another one, with the link that says why."""
        link = link_of(by.message, by.chain, settle, at=at, after=after, body=digest(body), begun=begun, order=order)
        chain = carried(by.chain, self._sign(link.kind, link))
        return frame_of(chain, body)

    def close(
        self, by: Verified, settle: Settle, at: float, begun: Mapping[str, str], order: MessageOrder | None = None
    ) -> str:
        """Return the link of a message that no other follows."""
        link = link_of(by.message, by.chain, settle, at=at, begun=begun, order=order)
        return self._sign(link.kind, link).token

    def _sign(self, kind: Kind, statement: S) -> Signed[S]:
        token = sign(kind, statement.to_claims(), self.signer)
        signed = Signed(statement, self.name, token, digest(token.encode()))
        self._remember(signed)
        return signed

    def answer(
        self, workflow: str, key: str, value: Any, at: float, by: str | None = None, question: str | None = None
    ) -> str:
        """Return the proof that this App gave the value, of JSON types, for this key of a workflow."""
        about = {"aud": self.policy.audience, "wf": workflow, "key": key, "value": digest_of(value)}
        answer = Answer(iat=int(at), by=by or "", question=question, **about)
        return self._sign(Kind.ANSWER, answer).token

    def vouch(self, turn: Turn, unit: Unit, at: float) -> str:
        """Return the proof that this App has finished the unit."""
        return self._sign(Kind.UNIT, entry_of(turn, unit, self.policy.audience, at)).token

    def check_unit(self, turn: Turn, unit: Unit, act: str) -> None:
        """Check a unit in the journal of a step of this activity.

        Raises:
            Untrusted: it is not believed.
            UnknownKey: it is signed with a key that is not known here (yet).
        """
        signed = None if unit.proof is None else self.verified(unit.proof, JournalEntry, Kind.UNIT)
        try:
            judge_unit(signed, turn, unit, act, self.policy)
        except Untrusted as error:
            if self.is_strict or error.code != NO_PROOF:
                raise

    def announced(self, offer: Offer, at: float) -> Offer:
        """Return the offer with its proof."""
        said = Announced(iat=int(at), aud=self.policy.audience, act=offer.name, offer=digest_of(offer.said()))
        return replace(offer, proof=self._sign(Kind.OFFER, said).token)

    def trusts(self, offer: Offer) -> bool:
        """Whether a worker that may run the activity has signed the offer."""
        if offer.proof is None:
            return not self.is_strict
        try:
            signed = self.verified(offer.proof, Announced, Kind.OFFER)
        except (Untrusted, KeysUnavailable):
            return False
        said = signed.statement
        is_this = (said.aud, said.act, said.offer) == (self.policy.audience, offer.name, digest_of(offer.said()))
        return is_this and self.policy.allows(signed.key, Right.RUN, offer.name)

    def order(self, workflow: str, what: str, at: float, *, reason: str = "", compensate: bool = False) -> str:
        """Return the proof that this App gave an order about a workflow; ``what`` is the right that it needs.

        Raises:
            Untrusted: the key of this App has no such right.
        """
        about: dict[str, Any] = {"aud": self.policy.audience, "wf": workflow, "what": what, "by": self.name, "at": at}
        order = Order(iat=int(at), reason=reason[:_LONGEST_REASON], compensate=compensate, **about)
        if self.is_strict:
            judge_order(order, self.name, self.policy)
        return self._sign(Kind.ORDER, order).token

    def order_in(self, token: str) -> Signed[Order] | None:
        """Return the order about a workflow; None for another statement.

        Raises:
            Untrusted: it is not right.
            UnknownKey: it is signed with a key that is not known here (yet).
        """
        try:
            kind, _, claims = unchecked(token)
        except BadSignature as error:
            raise Untrusted(error.code, str(error)) from None
        is_order = kind is Kind.ORDER and "what" in claims
        return self.verified(token, Order, Kind.ORDER) if is_order else None

    def check_answer(self, waiting: Held, now: float) -> None:
        """Check that an answer of this App to a waiting message would be believed, and that it is shown as asked.

        Raises:
            Untrusted, KeysUnavailable: it would not be.
            MalformedMessage, MessageTooLarge: what waits is no signed message.
        """
        judge_shown(self.open(waiting.body, now).chain, waiting, self.name, self.policy)

    # --- reading ---------------------------------------------------------------------------------------------------

    def open(self, data: bytes, now: float) -> Envelope:
        """Verify a signed message, without parsing it; :meth:`opened` does the rest.

        Raises:
            Untrusted: it is not believed.
            MalformedMessage, MessageTooLarge: it is no signed message.
            UnknownKey: it is signed with a key that is not known here (yet).
        """
        frame = cut(data, self.limit)
        self._forget_old()
        chain = Chain(
            self.verified(frame.plan, Plan, Kind.PLAN),
            tuple(self.verified(one, Plan, Kind.PLAN) for one in frame.above),
            tuple(self.verified(one, Link, Kind.LINK, Kind.ORDER) for one in frame.links),
        )
        origin(chain, digest(frame.message), self.policy, now)
        return self._receiving(frame, chain, now)

    def _receiving(self, frame: Frame, chain: Chain, now: float) -> Envelope:
        believed, doubts = list[dict[str, Any]](), list[Doubt]()
        for item in frame.received:
            try:
                if believed:
                    raise Untrusted(TOO_MUCH, "more than one thing came for the message")
                self._judge_item(chain, item, now)
                believed.append(item)
            except Untrusted as error:
                doubts.append(Doubt(item["key"], error.code, str(error), _shown(item["entry"])))
        if not frame.received and (doubt := nothing_came(chain)) is not None:
            doubts.append(doubt)
        return Envelope(frame.message, chain, tuple(believed), tuple(doubts))

    def _judge_item(self, chain: Chain, item: Mapping[str, Any], now: float) -> None:
        """Judge what came for a message. Without a proof it is accepted only where unsigned messages are, too."""
        key, entry, proof = item["key"], item["entry"], item.get("proof")
        answer = self.verified(proof, Answer, Kind.ANSWER) if isinstance(proof, str) else None
        try:
            received(chain, Item(key, entry, answer), self.policy, now)
        except Untrusted as error:
            if self.is_strict or error.code != NO_PROOF:
                raise

    def opened(self, data: bytes, now: float, decoded: Callable[[bytes], PaigeantMessage]) -> Opened:
        """Verify, read and judge a signed message. ``decoded`` reads its bytes, once their signatures are right.

        Raises:
            MessageError: it is no message, or it is not trusted.
            UnknownKey: it is signed with a key that is not known here (yet).
        """
        envelope = self.open(data, now)
        message = envelope.message(decoded)
        course(envelope.chain, steps_of(envelope.chain, self.policy), message, self.policy)
        ends = tuple(item["key"] for item in envelope.received if is_end(item))
        return Opened(message.coming_with(envelope.chain), envelope.doubts, ends)

    def verified(self, token: str, shape: type[S], *kinds: Kind) -> Signed[S]:
        """Return the statement, of one of these kinds, after checking its signature, its key's state and its shape.

        Raises:
            Untrusted: it is not right.
            UnknownKey: it is signed with a key that is not known here (yet).
        """
        fingerprint = digest(token.encode())
        if (known := self._memory.get(fingerprint)) is not None and isinstance(known.statement, shape):
            self._memory.move_to_end(fingerprint)
            return known
        try:
            key = self.keyring.find(kid_of(token))
            kind = next((one for one in kinds if is_of(token, one)), kinds[0])
            claims = verify(token, kind, lambda _: key.verifies)
            statement = _parsed(claims, kind, shape)
            key.check(statement.iat)
        except BadSignature as error:
            raise Untrusted(error.code, str(error)) from None
        signed = Signed(statement, key.name, token, fingerprint)
        self._remember(signed)
        return signed

    def _remember(self, signed: Signed[Any]) -> None:
        self._memory[signed.digest] = signed
        while len(self._memory) > _REMEMBERED:
            self._memory.popitem(last=False)

    def _forget_old(self) -> None:
        """Forget what was verified with keys that have changed since."""
        if self._edition != self.keyring.edition:
            self._edition = self.keyring.edition
            self._memory.clear()


def frame_of(chain: Chain, body: bytes) -> Frame:
    """Return a message's bytes with the statements that belong to it."""
    links = tuple(one.token for one in chain.links)
    return Frame(chain.plan.token, links, body, above=tuple(one.token for one in chain.above))


def _shown(entry: Mapping[str, Any]) -> Any:
    """Return what came, unless it is large."""
    return entry if len(canonical(entry)) <= _LARGEST_SHOWN else None


def _parsed(claims: bytes, kind: Kind, shape: type[S]) -> S:
    """Return the statement of these claims; a link is an order if, and only if, it was signed as one.

    Raises:
        Untrusted: they have another shape.
    """
    try:
        read = strict_json.loads(claims, limit=_LARGEST_CLAIMS)
        _refuse_other_order(read, shape)
        statement = shape.from_dict(read)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Untrusted("claims", f"the claims of a {kind} are wrong: {where}: {first['msg']}") from None
    except ValueError as error:
        raise Untrusted("claims", f"the claims of a {kind} are wrong: {error}") from None
    if isinstance(statement, Link) and statement.kind is not kind:
        raise Untrusted("type", f"a {statement.kind} was signed as a {kind}")
    return statement


def _refuse_other_order(claims: Any, shape: type[Statement]) -> None:
    """Refuse an order about a message where one about a workflow belongs, and the other way round.

    Raises:
        Untrusted: nothing may be read as both.
    """
    foreign = {Link: "what", Order: "plan"}.get(shape)
    if foreign is not None and isinstance(claims, dict) and foreign in claims:
        raise Untrusted("type", f"an order has the claim {foreign!r}, which belongs to another kind of order")

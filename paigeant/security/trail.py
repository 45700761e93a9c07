"""The audit trail of workflows: gathers it from a store, writes it as JSON lines, reads it, and has it audited.

The statements are the trail. What stands beside them (the workflow, the status, the key's id) is unsigned: a reader
compares it with the statements and believes only those.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from paigeant.decisions.audit import Audited, Fault, Trail, audited
from paigeant.errors import KeysUnavailable, MalformedMessage, Untrusted
from paigeant.records.trust import StatementRecord
from paigeant.records.workflow import Status, WorkflowRecord
from paigeant.security.jws import LARGEST, BadSignature, unchecked
from paigeant.security.notary import Notary
from paigeant.wire import strict_json
from paigeant.wire.proof import Answer, Kind, Link, Order, Plan, Signed, Statement

VERSION = 1
"""The version of the lines: a reader refuses a higher one."""

_MOST = 100_000
"""Maximum workflows of one family."""

_LARGEST_LINE = LARGEST + 8_192


class Reading(Protocol):
    """Reads a store for an audit: statements, workflows and their children."""

    async def statements(self, correlation_ids: Sequence[str], /) -> Mapping[str, Sequence[StatementRecord]]: ...

    async def brief(self, correlation_id: str, /) -> WorkflowRecord | None: ...

    async def workflows(self, *, parent: str | None = None, limit: int = 20) -> Sequence[WorkflowRecord]: ...


@dataclass(frozen=True, slots=True)
class About:
    """An unsigned line about a workflow: the status in the store, and whether its whole trail follows."""

    workflow: str
    status: str | None = None
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Trails:
    """Statements of some workflows. ``has_family``: those that the first one began were gathered as well."""

    about: Sequence[About]
    statements: Mapping[str, Sequence[StatementRecord]] = field(default_factory=dict)
    has_family: bool = False

    def lines(self) -> Iterator[dict[str, Any]]:
        """Return the lines of a file, as JSON types."""
        yield {"type": "trail", "v": VERSION, "workflow": self.about[0].workflow, "family": self.has_family}
        for one in self.about:
            yield {"type": "workflow", "workflow": one.workflow, "status": one.status, "whole": one.is_whole}
            for record in self.statements.get(one.workflow, ()):
                yield _line(record)


def _line(record: StatementRecord) -> dict[str, Any]:
    kind, kid = _claimed(record.token)
    about = {"type": "statement", "workflow": record.correlation_id, "message": record.message_id, "at": record.at}
    return about | {"kind": kind, "kid": kid, "token": record.token}


def _claimed(token: str) -> tuple[str | None, str | None]:
    try:
        kind, kid, _ = unchecked(token)
    except BadSignature:
        return None, None
    return kind.value, kid


# --- gather ----------------------------------------------------------------------------------------------------------


async def gathered(store: Reading, workflow: str, *, has_family: bool) -> Trails:
    """Read the trail of a workflow from a store, and the plans of its ancestors.

    ``has_family``: also the trails of the workflows that it began, and that those began.
    """
    found = dict[str, Sequence[StatementRecord]]()
    about, newest = list[About](), [workflow]
    while newest and len(about) < _MOST:
        found |= await _read(store, newest)
        about += [await _about(store, one) for one in newest]
        known = {one.workflow for one in about}
        children = [one for parent in newest for one in await _children(store, parent, found)] if has_family else []
        newest = [one for one in dict.fromkeys(children) if one not in known]
    above = await _ancestors(store, workflow, found)
    return Trails([*about, *(About(one, is_whole=False) for one in above)], found | above, has_family)


async def _read(store: Reading, workflows: Sequence[str]) -> Mapping[str, Sequence[StatementRecord]]:
    found = await store.statements(workflows)
    return {one: found.get(one, ()) for one in workflows}


async def _about(store: Reading, workflow: str) -> About:
    record = await store.brief(workflow)
    return About(workflow, record.status.value if record is not None else None)


async def _children(store: Reading, parent: str, found: Mapping[str, Sequence[StatementRecord]]) -> list[str]:
    """Return the workflows that this one began, by its statements or by their rows."""
    begun = [one for record in found[parent] for one in _claims(record.token).get("begin") or ()]
    return [*begun, *(one.correlation_id for one in await store.workflows(parent=parent, limit=_MOST))]


async def _ancestors(
    store: Reading, workflow: str, found: Mapping[str, Sequence[StatementRecord]]
) -> dict[str, Sequence[StatementRecord]]:
    """Return the plans of the workflows above this one, and the orders about them, which concern their children."""
    above = dict[str, Sequence[StatementRecord]]()
    parent = _parent(found[workflow])
    while parent is not None and parent not in found and parent not in above:
        records = (await _read(store, [parent]))[parent]
        above[parent] = [one for one in records if _claimed(one.token)[0] == Kind.PLAN or _is_order(one.token)]
        parent = _parent(above[parent])
    return above


def _parent(records: Iterable[StatementRecord]) -> str | None:
    origins = (_claims(one.token).get("origin") for one in records)
    named = (one["wf"] for one in origins if isinstance(one, dict) and isinstance(one.get("wf"), str))
    return next(named, None)


def _is_order(token: str) -> bool:
    """Whether it is an order about a whole workflow, unchecked."""
    return _claimed(token)[0] == Kind.ORDER and "what" in _claims(token)


def _claims(token: str) -> dict[str, Any]:
    try:
        return unchecked(token)[2]
    except BadSignature:
        return {}


# --- read a file -----------------------------------------------------------------------------------------------------


def read(lines: Iterable[bytes | str]) -> Trails:
    """Read the lines that :meth:`Trails.lines` wrote.

    Raises:
        MalformedMessage: a line is something else; the text has its number.
    """
    about, statements, has_family = dict[str, About](), dict[str, list[StatementRecord]](), None
    for number, line in enumerate(lines, start=1):
        data = _parsed(line, number)
        if has_family is None:
            has_family = _family(data)
            continue
        try:
            match data:
                case {"type": "workflow", "workflow": str(workflow), "status": str() | None as status, "whole": whole}:
                    known = status and Status(status).value
                    about[workflow] = About(workflow, known, is_whole=whole is not False)
                case {"type": "statement", "workflow": str(workflow), "token": str(token)}:
                    record = StatementRecord(workflow, data.get("message"), token, float(data.get("at") or 0))
                    statements.setdefault(workflow, []).append(record)
                case _:
                    raise ValueError("it is neither a workflow nor a statement")
        except (ValueError, TypeError) as error:
            raise MalformedMessage(f"line {number} is not of an audit trail: {error}") from None
    if has_family is None:
        raise MalformedMessage("there is no audit trail: the file is empty")
    unknown = (About(one) for one in statements if one not in about)
    return Trails([*about.values(), *unknown], statements, has_family)


def _parsed(line: bytes | str, number: int) -> Any:
    try:
        return strict_json.loads(line.strip(), limit=_LARGEST_LINE)
    except ValueError as error:
        raise MalformedMessage(f"line {number} is not of an audit trail: {error}") from None


def _family(data: Any) -> bool:
    if not isinstance(data, dict) or data.get("type") != "trail" or data.get("v") != VERSION:
        raise MalformedMessage("line 1 is not of an audit trail: paigeant audit export writes one")
    return data.get("family") is True


# --- verify ----------------------------------------------------------------------------------------------------------


def verified(trails: Trails, notary: Notary) -> Sequence[Audited]:
    """Check the signatures of these trails, and audit them. The first result is that of the workflow asked for."""
    found = {one.workflow: _trail(one, trails.statements.get(one.workflow, ()), notary) for one in trails.about}
    return audited(found, notary.policy, has_family=trails.has_family)


def _trail(about: About, records: Sequence[StatementRecord], notary: Notary) -> Trail:
    found, faults = defaultdict[type[Statement], list[Any]](list), list[Fault]()
    for number, record in enumerate(records, start=1):
        try:
            signed = _verified(record.token, notary)
            found[type(signed.statement)].append(signed)
        except (Untrusted, BadSignature, KeysUnavailable) as error:
            code = getattr(error, "code", "unknown-key")
            faults.append(Fault(about.workflow, code, f"statement {number} is not believed: {error}"))
    return Trail(
        about.workflow,
        about.status,
        about.is_whole,
        plans=tuple(found[Plan]),
        links=tuple(found[Link]),
        answers=tuple(found[Answer]),
        orders=tuple(found[Order]),
        faults=tuple(faults),
    )


def _verified(token: str, notary: Notary) -> Signed[Statement]:
    kind, _, claims = unchecked(token)
    if kind is Kind.PLAN:
        return notary.verified(token, Plan, kind)
    if kind is Kind.ANSWER:
        return notary.verified(token, Answer, kind)
    if kind is Kind.ORDER and "what" in claims:
        return notary.verified(token, Order, kind)
    return notary.verified(token, Link, Kind.LINK, Kind.ORDER)

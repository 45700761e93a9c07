"""Reads the signed statements that a store keeps, and says what they prove about its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain as joined
from typing import Any, Protocol

from paigeant.decisions.evidence import judge_output
from paigeant.decisions.history import Proven, above_of, proven
from paigeant.errors import KeysUnavailable, Untrusted
from paigeant.records.trust import NO_PROOF, StatementRecord
from paigeant.security.jws import is_of
from paigeant.security.notary import Notary
from paigeant.wire.log import LogEntry
from paigeant.wire.proof import Chain, Kind, Link, Plan, Signed


class Evidence(Protocol):
    """Reads the statements of a store while a step runs: see :class:`paigeant.store.Statements`."""

    def evidence(self, message_id: str) -> Sequence[StatementRecord]:
        """Return the statements about the attempt of this message. Blocks."""
        ...

    def chain(self, correlation_id: str) -> Sequence[StatementRecord]:
        """Return the statements of this workflow. Blocks."""
        ...


@dataclass(frozen=True, slots=True)
class Statements:
    """The plans and links among some statements, with right signatures; others are left out.

    ``unknown`` says which key is not known here (yet), if one of them was signed with such a key.
    """

    plans: tuple[Signed[Plan], ...] = ()
    links: tuple[Signed[Link], ...] = ()
    unknown: KeysUnavailable | None = None

    def doubtful(self, error: Untrusted) -> Exception:
        """Return the error for what is not proved: perhaps it is, by a key that is not known yet."""
        return error if self.unknown is None else self.unknown


def statements_in(notary: Notary, records: Iterable[StatementRecord]) -> Statements:
    """Return the plans and links among these records. A stranger may have written some: those are left out."""
    plans, links = list[Signed[Plan]](), list[Signed[Link]]()
    unknown: KeysUnavailable | None = None
    for record in records:
        try:
            if is_of(record.token, Kind.PLAN):
                plans.append(notary.verified(record.token, Plan, Kind.PLAN))
            elif is_of(record.token, Kind.LINK) or is_of(record.token, Kind.ORDER):
                links.append(notary.verified(record.token, Link, Kind.LINK, Kind.ORDER))
        except KeysUnavailable as error:
            unknown = error
        except Untrusted:
            continue
    return Statements(tuple(plans), tuple(links), unknown)


def history_of(
    notary: Notary, workflow: str, found: Mapping[str, Sequence[StatementRecord]], above: Sequence[Signed[Plan]] = ()
) -> Proven:
    """Return what the statements of a workflow prove. ``found`` has the statements by workflow.

    ``above`` are the plans of its ancestors, if they are known; otherwise they are looked for in ``found``. A step
    that runs again signs the plans of its children again, and one of the plans is followed.

    Raises:
        Untrusted: they prove nothing.
        KeysUnavailable: perhaps they do, but a key is not known here yet.
    """
    said = statements_in(notary, found.get(workflow, ()))
    plans = [one for one in said.plans if one.statement.wf == workflow]
    refused, histories = Untrusted(NO_PROOF, f"no plan of workflow {workflow} is recorded"), list[Proven]()
    for plan in plans:
        try:
            histories.append(proven(plan, said.links, notary.policy, tuple(above) or _above(notary, plan, found)))
        except Untrusted as error:
            refused = error
    if not histories:
        raise said.doubtful(refused)
    return max(histories, key=lambda one: (one.status is not None, len(one.links)))


def judge_stored_output(notary: Notary, chain: Chain, entry: LogEntry, output: Any, store: Evidence) -> None:
    """Judge the output that a store has for an earlier step of the workflow of this chain. Blocks.

    The step may belong to the workflow itself, to one of its family, or to the workflow that it is a fork of.

    Raises:
        Untrusted: it is not proved.
        KeysUnavailable: perhaps it is, but a key is not known here yet.
    """
    records = store.evidence(entry.source or "")
    said = statements_in(notary, records)
    plans = {chain.plan.digest, *(one.digest for one in chain.above)}
    for record in records:
        plans |= _related(notary, chain, record.correlation_id, store)
    try:
        judge_output(entry, output, said.links, plans, notary.policy)
    except Untrusted as error:
        raise said.doubtful(error) from None


def _related(notary: Notary, chain: Chain, workflow: str, store: Evidence) -> set[str]:
    """Return the digests of the plans of another workflow whose outputs the workflow of this chain may read."""
    family = (*chain.above, chain.plan)
    if workflow in {one.statement.wf for one in family}:
        return set()
    found, places = set[str](), {one.digest: at for at, one in enumerate(family)}
    forks = _forks(notary, family, store)
    for plan in statements_in(notary, store.chain(workflow)).plans:
        origin = plan.statement.origin
        if plan.statement.wf != workflow or not (workflow in forks or (origin and origin.plan in places)):
            continue
        above = family[: places[origin.plan] + 1] if origin and origin.plan in places else ()
        with suppress(Untrusted):
            found.add(proven(plan, (), notary.policy, above).plan.digest)
    return found


def _forks(notary: Notary, family: Sequence[Signed[Plan]], store: Evidence) -> set[str]:
    """Return the workflows of which these are forks, and those of which those are."""
    left, found = [one.statement.forked for one in family], set[str]()
    while left:
        if (workflow := left.pop()) is not None and workflow not in found:
            found.add(workflow)
            left += [one.statement.forked for one in statements_in(notary, store.chain(workflow)).plans]
    return found


def _above(
    notary: Notary, plan: Signed[Plan], found: Mapping[str, Sequence[StatementRecord]]
) -> tuple[Signed[Plan], ...]:
    """Return the plans of the ancestors among these statements, the root first."""
    if plan.statement.origin is None:
        return ()
    everyone = statements_in(notary, joined.from_iterable(found.values())).plans
    return above_of(plan, {one.digest: one for one in everyone})

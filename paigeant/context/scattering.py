"""Runs branches side by side and collects their results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paigeant.context.planning import Planning
from paigeant.context.rounds import Rounds
from paigeant.context.services import Services
from paigeant.context.state import StepState
from paigeant.context.waiting import Waiting, check_seconds
from paigeant.decisions.interrupts import Park
from paigeant.errors import BranchesFailed
from paigeant.runtime.clock import utc
from paigeant.wire.join import ANY_RESULT, Branch, BranchResult, Join, Policy, why_not
from paigeant.wire.log import LogEntry
from paigeant.wire.slip import RoutingSlip
from paigeant.wire.usage import NOTHING
from paigeant.wire.values import copied


@dataclass(frozen=True, slots=True)
class Scattering:
    """Begins the branches of a step's scatters, and parks the step until their join has its result."""

    state: StepState
    services: Services
    planning: Planning
    waiting: Waiting

    def slip(self, branch: Any) -> RoutingSlip:
        """A branch, a step or a slip of several, as an addressed slip."""
        if isinstance(branch, RoutingSlip):
            return branch.model_copy(update={"itinerary": self.planning.specs(branch.itinerary)})
        return RoutingSlip(itinerary=self.planning.specs([branch]))

    def gather(
        self, branches: Sequence[RoutingSlip], items: Sequence[Any] | None, policy: Policy, deadline: float | None
    ) -> list[BranchResult[Any]]:
        """Run these addressed branches and return their results."""
        if not branches and policy in ("all", "settled"):
            return []
        check_seconds("deadline", deadline)
        if self.planning.behalf.is_agents:  # in other code the steps were checked when they were planned
            self.planning.refuse_scopes(step for slip in branches for step in slip.itinerary)
        message, join = self.state.message, Join.of(len(branches), policy)
        rounds = Rounds.before(message, self.state.place, self.state.nth_scatter(), join.total)
        if rounds.key in message.received:
            rounds = rounds.after(self.waiting.arrival(rounds.key, None, None))
        elif not rounds.suffice(join):
            self._begin(rounds, [self._branch(rounds, at, branches[at], items) for at in rounds.missing])
            raise Park(rounds.key, deadline, {"branches": join.total, "needed": join.needed}, rounds.rest(join))
        results = [ANY_RESULT(**copied(dict(one))) for one in rounds.ended]
        if not join.is_reached(sum(one.is_completed for one in results)):
            raise BranchesFailed(why_not(results, join), hint=f"see: paigeant workflow {message.correlation_id}")
        return results

    def _branch(self, rounds: Rounds, place: int, slip: RoutingSlip, items: Sequence[Any] | None) -> RoutingSlip:
        """The branch as it begins. One that began before resumes at the step that did not complete."""
        message, rests = self.state.message, self.services.rests
        log = message.routing_slip.log[-1:] if items is None else (self._as_if_completed(items[place]),)
        for rest in (rests[one] for one in rounds.workflows(place) if one in rests):
            slip = slip.changed("variables", rest.variables).model_copy(update={"itinerary": rest.itinerary})
            log = rest.log
        return slip.behind(log, message.routing_slip, self.state.variables.now())

    def _begin(self, rounds: Rounds, slips: Sequence[RoutingSlip]) -> None:
        for place, slip in zip(rounds.missing, self._within_budget(slips), strict=True):
            after = next(reversed(rounds.workflows(place)), None)
            branch = Branch(join=rounds.key, index=place, after=after)
            self.planning.begin(rounds.key, place, slip, f"{self.state.message.name}[{place}]", branch)

    def _within_budget(self, branches: Sequence[RoutingSlip]) -> Sequence[RoutingSlip]:
        """The branches, each with its share of what is left of the workflow's budget."""
        slip = self.state.message.charged(NOTHING).routing_slip
        if slip.budget is None:
            return branches
        shares = slip.budget.shares(slip.used, len(branches))
        return [one.model_copy(update={"budget": share}) for one, share in zip(branches, shares, strict=True)]

    def _as_if_completed(self, output: Any) -> LogEntry:
        now, step = utc(self.services.clock.now()), self.state.message.step
        return LogEntry(id=step.id, name=step.name, output=output, started_at=now, finished_at=now)

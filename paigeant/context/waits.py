"""What a step waits for, without holding a process or a message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from paigeant.approval import KEY as APPROVAL
from paigeant.approval import Approval
from paigeant.clock import utc
from paigeant.context.changes import Changes
from paigeant.context.rounds import Rounds
from paigeant.errors import BranchesFailed, ChildFailed, InvalidInput, MessageTooLarge, SignalTimeout
from paigeant.interrupts import Park
from paigeant.join import KEY as JOIN
from paigeant.join import Branch, BranchResult, Join, Policy, why_not
from paigeant.json_schema import described, misfit
from paigeant.message import SLEEP
from paigeant.records import Status, child_key
from paigeant.slip import LogEntry, RoutingSlip
from paigeant.usage import NOTHING
from paigeant.values import jsonable, revive


def signal_key(name: str) -> str:
    """What a step waits for that waits for this signal."""
    return f"signal:{name}"


class Waits(Changes):
    """The part of a step's context that waits."""

    __slots__ = ("_awaited", "_rests")
    _awaited: Counter[str]
    _rests: Mapping[str, RoutingSlip]

    def sleep(self, seconds: float | None = None, *, until: float | None = None) -> None:
        """Wait this long, or until this time (epoch seconds), without holding a process or a message.

        This and its siblings do not block: they raise, and when the wait is over the activity runs from its beginning
        and passes here. What it did before must bear repetition, or be a step of its own.
        """
        if until is not None:
            seconds = max(0.0, until - self._clock.now())
        self._await(SLEEP, seconds or 0.0, None)

    def await_signal(self, name: str, *, timeout: float | None = None, schema: Any = Any) -> Any:
        """The value of ``workflow.signal(name, value)`` as ``schema``; the step waits for it as in :meth:`sleep`.

        ``schema`` is a type, or a JSON Schema. While the step waits, another value is refused where it is sent.

        Raises:
            SignalTimeout: after ``timeout`` seconds.
            pydantic.ValidationError, InvalidInput: the value came before, and is no ``schema``.
        """
        expected = described(schema)
        detail = {"signal": name} | ({"schema": expected} if expected is not None else {})
        value = self._await(signal_key(name), timeout, detail)
        if not isinstance(schema, dict):
            return revive(value, schema)
        if (why := misfit(value, schema)) is not None:
            raise InvalidInput(f"signal {name!r} is not what this step waits for: {why}")
        return value

    def await_approval(self, asks: str, *, details: Any = None, timeout: float | None = None) -> Approval:
        """What somebody says to this question: ``paigeant approve`` or ``deny``; waits for it as :meth:`sleep` does.

        ``details`` (anything that JSON can hold) is shown with the question: arguments to be approved, for example.

        Raises:
            SignalTimeout: after ``timeout`` seconds.
        """
        which = self._awaited[APPROVAL]  # a key of its own: nobody decides on what comes later
        self._awaited[APPROVAL] += 1
        return self._approval(str(which), asks, details, timeout)

    def _approval(self, which: str, asks: str, details: Any, timeout: float | None = None) -> Approval:
        detail = {"asks": asks, "details": jsonable(details, "details")}
        return Approval(**self._await(f"{APPROVAL}{self._place}:{which}", timeout, detail))

    def wait_for(self, workflow: str, *, timeout: float | None = None, type: Any = Any) -> Any:  # noqa: A002 - as output()
        """The output of a workflow that this step dispatched, as ``type``; the step waits for it as in :meth:`sleep`.

        Raises:
            ChildFailed: the workflow failed or was cancelled.
            SignalTimeout: after ``timeout`` seconds.
        """
        end = self._await(child_key(workflow), timeout, {"workflow": workflow})
        if end["status"] != Status.COMPLETED.value:
            error = end["error"]
            why = f": {error['type']}: {error['message']}" if error else ""
            raise ChildFailed(f"workflow {workflow}: {end['status']}{why}", hint=f"see: paigeant workflow {workflow}")
        return revive(end["output"], type)

    def scatter(self, *branches: Any, policy: Policy = "all", deadline: float | None = None) -> list[BranchResult[Any]]:
        """Run these branches side by side, as :func:`paigeant.scatter` does, and wait for them as in :meth:`sleep`.

        Raises:
            InvalidArguments: something that is no step, or a policy that these branches cannot meet.
            BranchesFailed: fewer completed than the policy asks for, in ``deadline`` seconds.
        """
        return self.gather([self._as_slip(one) for one in branches], policy=policy, deadline=deadline)

    def _as_slip(self, branch: Any) -> RoutingSlip:
        if isinstance(branch, RoutingSlip):
            return branch.model_copy(update={"itinerary": self._planned(branch.itinerary)})
        return RoutingSlip(itinerary=self._planned([branch]))

    def gather(
        self,
        branches: Sequence[RoutingSlip],
        *,
        items: Sequence[Any] | None = None,
        policy: Policy = "all",
        deadline: float | None = None,
    ) -> list[BranchResult[Any]]:
        """:meth:`scatter` over slips that are addressed already.

        ``items`` are the outputs that the first steps of the branches find before them; default: what this step found.
        """
        if not branches and policy in ("all", "settled"):
            return []
        join, nth = Join.of(len(branches), policy), self._awaited[JOIN]
        self._awaited[JOIN] += 1
        rounds = Rounds.before(self._message, self._place, nth, join.total)
        if rounds.key in self._message.received:
            rounds = rounds.after(self._await(rounds.key, None, None))
        elif not rounds.suffice(join):
            self._begin_branches(rounds, [self._branch(rounds, at, branches[at], items) for at in rounds.missing])
            raise Park(rounds.key, deadline, {"branches": join.total, "needed": join.needed}, rounds.rest(join))
        results = [BranchResult[Any](**one) for one in rounds.ended]
        if not join.is_reached(sum(one.is_completed for one in results)):
            raise BranchesFailed(why_not(results, join), hint=f"see: paigeant workflow {self.correlation_id}")
        return results

    def _branch(self, rounds: Rounds, place: int, slip: RoutingSlip, items: Sequence[Any] | None) -> RoutingSlip:
        """The branch as it begins; one that was begun before goes on from the step that did not complete then."""
        log = self._message.routing_slip.log[-1:] if items is None else (self._as_if_completed(items[place]),)
        for rest in (self._rests[one] for one in rounds.workflows(place) if one in self._rests):
            slip = slip.changed("variables", rest.variables).model_copy(update={"itinerary": rest.itinerary})
            log = rest.log
        return slip.behind(log, self._message.routing_slip, dict(self.variables))

    def _begin_branches(self, rounds: Rounds, slips: Sequence[RoutingSlip]) -> None:
        for place, slip in zip(rounds.missing, self._within_budget(slips), strict=True):
            after = next(reversed(rounds.workflows(place)), None)
            branch = Branch(join=rounds.key, index=place, after=after)
            self._begin(rounds.key, place, slip, f"{self._message.name}[{place}]", branch)

    def _within_budget(self, branches: Sequence[RoutingSlip]) -> Sequence[RoutingSlip]:
        """The branches, each with its share of what is left of the workflow's budget."""
        slip = self._message.charged(NOTHING).routing_slip
        if slip.budget is None:
            return branches
        shares = slip.budget.shares(slip.used, len(branches))
        return [one.model_copy(update={"budget": share}) for one, share in zip(branches, shares, strict=True)]

    def _as_if_completed(self, output: Any) -> LogEntry:
        now = utc(self._clock.now())
        return LogEntry(id=self.step.id, name=self.step.name, output=output, started_at=now, finished_at=now)

    def _await(self, key: str, seconds: float | None, detail: Any) -> Any:
        """The value of the nth wait for this key, on the nth call of this run."""
        arrived = self._message.received.get(key, ())
        turn = self._awaited[key]
        self._awaited[key] += 1
        if turn >= len(arrived):
            raise Park(key, seconds, detail)
        if "error" in arrived[turn]:
            raise MessageTooLarge(arrived[turn]["error"])
        if "value" in arrived[turn] or key == SLEEP:
            return arrived[turn].get("value")
        raise SignalTimeout(f"{key!r} did not come in time")

"""Where a workflow can be forked, and with which slip. Pure: the way it went in, a slip out.

The slip that a step was run with is not kept: it follows from that at dispatch and from what completed steps changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from paigeant.decisions.compensate import fault_of
from paigeant.errors import InvalidArguments, WorkflowError
from paigeant.records.workflow import Course, DoneStep, Status, WorkflowRecord
from paigeant.runtime.clock import utc
from paigeant.runtime.nearest import did_you_mean
from paigeant.wire.log import LogEntry
from paigeant.wire.slip import ActivitySpec, RoutingSlip
from paigeant.wire.values import differences


def slips(course: Course) -> Iterator[RoutingSlip]:
    """The slips with which the steps were reached, in order; the last one is that of a step that has not completed."""
    slip, done = RoutingSlip.from_dict(course.slip or {}), {one.id: one for one in course.done}
    while slip.itinerary:
        yield slip
        if (one := done.get(slip.itinerary[0].id)) is None:
            return
        slip = _after(slip, one)


def rest(course: Course) -> RoutingSlip | None:
    """Return the steps left of a workflow that stopped halfway, with the variables that it changed.

    Returns None if it completed no step, if a completed step has a compensation, or if its slip was not stored.
    """
    if course.slip is None or not _stands(course.workflow):
        return None
    first, *reached = slips(course)
    if not reached or reached[-1].itinerary[0].id in {one.id for one in course.done}:
        return None
    last = reached[-1]
    changed, _ = differences(first.variables, last.variables)
    return last.model_copy(update={"variables": changed, "kept": {}})


def _stands(ended: WorkflowRecord) -> bool:
    """Whether the workflow stopped halfway, and none of its completed steps has a compensation."""
    cancellation = ended.cancellation
    by_wish = ended.status is Status.CANCELLED and cancellation is not None and cancellation.compensate
    return ended.status is Status.FAILED or by_wish


def _after(slip: RoutingSlip, done: DoneStep) -> RoutingSlip:
    if done.error is not None:
        ahead = tuple(ActivitySpec.from_dict(one) for one in done.ahead or ())
        return slip.model_copy(update={"itinerary": ahead, "failed": (*slip.failed, fault_of(done.id, done.error))})
    entry = LogEntry(
        id=done.id,
        name=done.activity,
        output=done.output,
        attempt=done.attempt,
        worker=done.worker,
        started_at=utc(done.started_at),
        finished_at=utc(done.finished_at),
        source=done.message_id,
    )
    ahead = slip.itinerary[1:]
    if done.ahead is not None:
        ahead = tuple(ActivitySpec.from_dict(one) for one in done.ahead)
    slip = slip.model_copy(update={"itinerary": ahead, "log": (*slip.log, entry)})
    if done.changes is not None:
        return slip.changed("variables", done.changes["set"], done.changes["deleted"])
    if done.variables is not None:  # the release before wrote all of them
        return slip.changed("variables", done.variables, slip.names_in("variables"))
    return slip


def slip_at(correlation_id: str, course: Course, taken_back: Collection[str], step: str) -> RoutingSlip:
    """Return the slip from this step on, by name or id, as it was when the workflow reached the step.

    Raises:
        InvalidArguments: there is no such step, or there are several of that name.
        WorkflowError: the workflow did not reach it, a step before it was compensated, or its slip was not stored.
    """
    if course.slip is None:
        raise WorkflowError(
            f"workflow {correlation_id} cannot be forked: how it was dispatched is not kept",
            correlation_id=correlation_id,
            hint="dispatch it again",
        )
    reached = list(slips(course))
    found = [slip for slip in reached if slip.itinerary[0].id == step]
    found = found or [slip for slip in reached if slip.itinerary[0].name == step]
    if not found:
        raise _not_reached(correlation_id, reached, step)
    if len(found) > 1:
        ids = [slip.itinerary[0].id for slip in found]
        raise InvalidArguments(f"several steps are named {step!r}", hint=f"say which by its id: {', '.join(ids)}")
    [slip] = found
    for entry in slip.log:
        if entry.id in taken_back:
            raise WorkflowError(
                f"workflow {correlation_id} cannot be forked from step {step!r}: {entry.name!r} was taken back",
                correlation_id=correlation_id,
                hint=f"fork it from step {entry.id} or one before that, so that it is done again",
            )
    return slip


def _not_reached(correlation_id: str, reached: Sequence[RoutingSlip], step: str) -> Exception:
    path = [slip.itinerary[0] for slip in reached]
    ahead = reached[-1].itinerary[1:] if reached else ()
    if any(step in (one.id, one.name) for one in ahead):
        return WorkflowError(
            f"workflow {correlation_id} has not come to step {step!r}: {path[-1].name!r} has not completed",
            correlation_id=correlation_id,
            hint=f"fork it from {path[-1].name!r}, or from a step before that",
        )
    names = dict.fromkeys(one.name for one in path)
    there = ", ".join(f"{one.id} ({one.name})" for one in path[:20])
    return InvalidArguments(
        f"workflow {correlation_id} has no step {step!r}",
        hint=did_you_mean(step, names, f"it can be forked from {there}"),
    )

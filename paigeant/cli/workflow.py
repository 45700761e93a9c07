from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import click

from paigeant.cli.connect import ask_store, full_id
from paigeant.cli.errors import warn
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import (
    WAITS,
    as_data,
    brief,
    legend,
    price,
    print_facts,
    print_json,
    print_table,
    readable,
    spent,
    took,
)
from paigeant.cli.standing import is_for_operator, next_command, operator_error, people_of, refused_of, status_of
from paigeant.errors import WorkflowNotFound
from paigeant.records.workflow import Held, StepRecord, WorkflowRecord, unserved_steps
from paigeant.store import Store


@click.command()
@click.argument("id")
@as_json
@connections
def workflow(id: str, as_json: bool) -> None:  # noqa: A002 - the argument's name in --help
    """Show a workflow and its steps. The first characters of the ID are enough if they are unique."""
    found, waiting, remarks = ask_store(lambda store: _read(store, id))
    if as_json:
        print_json(as_data(found))
    else:
        _print(found, waiting)
    for text in remarks:
        warn(text)


async def _read(store: Store, beginning: str) -> tuple[WorkflowRecord, Sequence[Held], list[str]]:
    correlation_id = await full_id(store, beginning)
    found = await store.workflow(correlation_id)
    if found is None:
        raise WorkflowNotFound(f"no workflow {correlation_id!r}", correlation_id=correlation_id)
    if found.status.is_terminal:
        return found, await people_of(store, found), []
    refused = await refused_of(store, correlation_id)
    return found, await people_of(store, found), [*unserved_steps([found], await store.workers()), *refused]


def _print(found: WorkflowRecord, waiting: Sequence[Held]) -> None:
    print_facts(
        {
            "workflow": found.correlation_id,
            "name": found.name,
            "parent": found.parent,
            "status": status_of(found, waiting),
            "forked from": found.forked_from,
            "on behalf of": f"{found.user['subject']} ({found.user['issuer']})" if found.user else None,
            "created": f"{readable(found.created_at)} UTC",
            "took": took(found.created_at, found.finished_at),
            "variables": brief(found.variables) if found.variables else None,
            "output": brief(found.output) if found.output is not None else None,
            "error": found.error or operator_error(waiting),
            "next": next_command(found, waiting),
            "cancelled": found.cancellation,
            "used": spent(found.used) or None,
        }
    )
    click.echo()
    stopped = {one.step_id for one in waiting if is_for_operator(one)}
    columns = [column for column in _COLUMNS if column not in _OPTIONAL or any(map(_OPTIONAL[column], found.steps))]
    rows = [[_cell(step, column, stopped) for column in columns] for step in found.steps]
    print_table(columns, rows, none="no steps")
    if text := legend(step.used for step in found.steps):
        warn(text)


_COLUMNS = (
    "step",
    "activity",
    "status",
    "attempt",
    "started (UTC)",
    "took",
    "worker",
    "tokens",
    "cost",
    "output",
    "error",
)

_OPTIONAL: dict[str, Callable[[StepRecord], object]] = {
    "tokens": lambda step: step.used,
    "cost": lambda step: step.used,
    "error": lambda step: step.error,
}
"""Columns that are shown if a step has something in them."""


def _cell(step: StepRecord, column: str, stopped: Collection[str]) -> object:
    match column:
        case "step":
            return step.id
        case "status" if step.id in stopped and step.status == "parked":
            return WAITS
        case "status":
            return step.status if step.heading == "forward" else f"{step.status} (back)"
        case "attempt":
            return step.attempt if step.status not in ("pending", "skipped") else None
        case "started (UTC)":
            return readable(step.started_at)
        case "took":
            return took(step.started_at, step.finished_at)
        case "tokens":
            return step.used.tokens if step.used else None
        case "cost":
            return price(step.used) if step.used else None
        case "output":
            return brief(step.output, 60) if step.output is not None else None
        case _:  # activity, worker, error
            return getattr(step, column)

from __future__ import annotations

import click

from paigeant.cli.connect import ask_store, full_id
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import as_data, brief, price, print_facts, print_json, print_table, readable, spent, took
from paigeant.errors import WorkflowNotFound
from paigeant.records import StepRecord, WorkflowRecord
from paigeant.store import Store


@click.command()
@click.argument("id")
@as_json
@connections
def workflow(id: str, as_json: bool) -> None:  # noqa: A002 - the argument's name in --help
    """Show a workflow and its steps. The beginning of the ID is enough if no other begins so."""
    found = ask_store(lambda store: _read(store, id))
    if as_json:
        print_json(as_data(found))
    else:
        _print(found)


async def _read(store: Store, beginning: str) -> WorkflowRecord:
    correlation_id = await full_id(store, beginning)
    found = await store.workflow(correlation_id)
    if found is None:
        raise WorkflowNotFound(f"no workflow {correlation_id!r}", correlation_id=correlation_id)
    return found


def _print(found: WorkflowRecord) -> None:
    print_facts(
        {
            "workflow": found.correlation_id,
            "name": found.name,
            "parent": found.parent,
            "status": found.status,
            "forked from": found.forked_from,
            "created": f"{readable(found.created_at)} UTC",
            "took": took(found.created_at, found.finished_at),
            "variables": brief(found.variables) if found.variables else None,
            "output": brief(found.output) if found.output is not None else None,
            "error": found.error,
            "cancelled": found.cancellation,
            "used": spent(found.used) or None,
        }
    )
    click.echo()
    rows = [_row(step) for step in found.steps]
    headers: tuple[str, ...] = ("step", "activity", "status", "attempt", "started (UTC)", "took", "worker", "output")
    if any(step.used for step in found.steps):
        headers = (*headers[:-1], "tokens", "cost", headers[-1])
        rows = [(*row[:-1], *_used(step), row[-1]) for row, step in zip(rows, found.steps, strict=True)]
    print_table(headers, rows, none="no steps")


def _row(step: StepRecord) -> tuple[object, ...]:
    said = step.error or (brief(step.output, 60) if step.output is not None else None)
    began = step.status != "pending"
    return (
        step.id,
        step.activity,
        step.status if step.heading == "forward" else f"{step.status} (back)",
        step.attempt if began else None,
        readable(step.started_at),
        took(step.started_at, step.finished_at),
        step.worker,
        said,
    )


def _used(step: StepRecord) -> tuple[object, ...]:
    return (step.used.tokens, price(step.used)) if step.used else (None, None)

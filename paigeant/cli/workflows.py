from __future__ import annotations

from collections.abc import Sequence

import click

from paigeant.cli.connect import ask_store, full_id
from paigeant.cli.errors import WrongUsage
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import as_data, print_json, print_table, readable, took
from paigeant.cli.standing import next_command, operator_error, people_of, status_of
from paigeant.records.workflow import Held, Status, WorkflowRecord
from paigeant.store import Store


@click.command()
@click.option("--status", type=click.Choice([status.value for status in Status]), help="Filter by status.")
@click.option("--name", help="Filter by name.")
@click.option("--all", "everything", is_flag=True, help="Include workflows that other workflows dispatched.")
@click.option("--children-of", metavar="ID", help="List only the workflows that this workflow dispatched.")
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1), help="Maximum number of rows.")
@as_json
@connections
def workflows(
    status: str | None, name: str | None, everything: bool, children_of: str | None, limit: int, as_json: bool
) -> None:
    """List top-level workflows, newest first (--all includes child workflows)."""
    if everything and children_of is not None:
        raise WrongUsage(
            "use either --all or --children-of, not both", hint="--all lists the children of all workflows"
        )

    async def read(store: Store) -> Sequence[tuple[WorkflowRecord, Sequence[Held]]]:
        parent = None if everything else "" if children_of is None else await full_id(store, children_of)
        found = await store.workflows(status=status, name=name, parent=parent, limit=limit)
        return [(one, () if as_json else await people_of(store, one)) for one in found]

    found = ask_store(read)
    if as_json:
        print_json([as_data(one, without=("steps", "variables", "output")) for one, _ in found])
        return
    headers = ("id", "name", "status", "created (UTC)", "took", "error", "next")
    rows = [_row(one, waiting) for one, waiting in found]
    shown = len(headers) if any(row[-1] for row in rows) else -1
    print_table(headers[:shown], [row[:shown] for row in rows], none="no workflows")


def _row(one: WorkflowRecord, waiting: Sequence[Held]) -> tuple[object, ...]:
    times = (readable(one.created_at), took(one.created_at, one.finished_at))
    error = one.error or operator_error(waiting)
    needed = next_command(one, waiting) if one.status is not Status.FAILED else None
    return (one.correlation_id, one.name, status_of(one, waiting), *times, error, needed)

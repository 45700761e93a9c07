from __future__ import annotations

from collections.abc import Sequence

import click

from paigeant.cli.connect import ask_store, full_id
from paigeant.cli.errors import WrongUsage
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import as_data, print_json, print_table, readable, took
from paigeant.records import Status, WorkflowRecord
from paigeant.store import Store


@click.command()
@click.option("--status", type=click.Choice([status.value for status in Status]), help="Only those that stand so.")
@click.option("--name", help="Only those of this name.")
@click.option("--all", "everything", is_flag=True, help="Those that other workflows dispatched as well.")
@click.option("--children-of", metavar="ID", help="Only those that this workflow dispatched.")
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1), help="How many.")
@as_json
@connections
def workflows(
    status: str | None, name: str | None, everything: bool, children_of: str | None, limit: int, as_json: bool
) -> None:
    """List workflows, newest first: those that no other workflow dispatched."""
    if everything and children_of is not None:
        raise WrongUsage("either --all or --children-of", hint="--all lists the children of all workflows too")

    async def read(store: Store) -> Sequence[WorkflowRecord]:
        parent = None if everything else "" if children_of is None else await full_id(store, children_of)
        return await store.workflows(status=status, name=name, parent=parent, limit=limit)

    found = ask_store(read)
    if as_json:
        print_json([as_data(one, without=("steps", "variables", "output")) for one in found])
    else:
        headers = ("id", "name", "status", "created (UTC)", "took", "error")
        print_table(headers, map(_row, found), none="no workflows")


def _row(one: WorkflowRecord) -> tuple[object, ...]:
    times = (readable(one.created_at), took(one.created_at, one.finished_at))
    return (one.correlation_id, one.name, one.status, *times, one.error)

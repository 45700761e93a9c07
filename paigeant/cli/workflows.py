from __future__ import annotations

import click

from paigeant.cli.connect import ask_store
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import as_data, print_json, print_table, readable, took
from paigeant.store import Status, WorkflowRecord


@click.command()
@click.option("--status", type=click.Choice([status.value for status in Status]), help="Only those that stand so.")
@click.option("--name", help="Only those of this name.")
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1), help="How many.")
@as_json
@connections
def workflows(status: str | None, name: str | None, limit: int, as_json: bool) -> None:
    """List workflows, newest first."""
    found = ask_store(lambda store: store.workflows(status=status, name=name, limit=limit))
    if as_json:
        print_json([as_data(one, without=("steps", "variables", "output")) for one in found])
    else:
        headers = ("id", "name", "status", "created (UTC)", "took", "error")
        print_table(headers, map(_row, found), none="no workflows")


def _row(one: WorkflowRecord) -> tuple[object, ...]:
    times = (readable(one.created_at), took(one.created_at, one.finished_at))
    return (one.correlation_id, one.name, one.status, *times, one.error)

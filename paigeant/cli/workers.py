from __future__ import annotations

import click

from paigeant.cli.connect import ask_store
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import as_data, print_json, print_table, readable
from paigeant.records.workflow import WorkerRecord


@click.command()
@as_json
@connections
def workers(as_json: bool) -> None:
    """List registered workers. A worker without a heartbeat for a minute is shown as gone."""
    found = ask_store(lambda store: store.workers())
    if as_json:
        print_json([as_data(one, without=("offers",)) for one in found])
        return
    headers = ("worker", "app", "state", "concurrency", "started (UTC)", "seen (UTC)", "activities")
    print_table(headers, map(_row, found), none="no workers")


def _row(one: WorkerRecord) -> tuple[object, ...]:
    state = "alive" if one.alive else "gone"
    times = (readable(one.started_at), readable(one.seen_at))
    return (one.id, one.app, state, one.concurrency, *times, ", ".join(one.activities))

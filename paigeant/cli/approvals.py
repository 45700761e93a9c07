from __future__ import annotations

import click

from paigeant.cli.connect import ask_store
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import brief, iso, print_json, print_table, readable
from paigeant.records.workflow import Held
from paigeant.wire.approval import KEY, SHOWN


@click.command()
@click.option("-n", "--limit", default=100, show_default=True, type=click.IntRange(1), help="Maximum number of rows.")
@as_json
@connections
def approvals(limit: int, as_json: bool) -> None:
    """List open approval requests, oldest first."""
    waiting = ask_store(lambda store: store.held(key=KEY, limit=limit))
    if as_json:
        print_json([_data(one) for one in waiting])
    else:
        columns = ("id", "question", "step", "asks", "details", "since (UTC)")
        print_table(columns, map(_row, waiting), none="no open approval requests")


def _data(one: Held) -> dict[str, object]:
    about = {"correlation_id": one.correlation_id, "step_id": one.step_id, "activity": one.activity}
    return about | {"since": iso(one.since), "due_at": iso(one.due_at), **one.detail, "question": one.question}


def _row(one: Held) -> tuple[object, ...]:
    details = one.detail.get("details")
    shown = "" if details is None else brief(details)
    return (one.correlation_id, one.question[:SHOWN], one.step_id, one.detail["asks"], shown, readable(one.since))

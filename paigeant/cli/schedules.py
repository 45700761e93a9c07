from __future__ import annotations

from typing import Any

import click

from paigeant.cli.connect import ask_store
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import iso, print_json, print_table, readable
from paigeant.records.workflow import ScheduleRecord


@click.command()
@as_json
@connections
def schedules(as_json: bool) -> None:
    """List schedules with their next time and their last workflow."""
    found = ask_store(lambda store: store.schedules())
    if as_json:
        print_json([as_data(one) for one in found])
    else:
        headers = ("name", "app", "status", "times", "next (UTC)", "last (UTC)", "last id", "error")
        print_table(
            headers, map(_row, found), none="no schedules: a worker registers the schedules of its App when it starts"
        )


def as_data(one: ScheduleRecord) -> dict[str, Any]:
    """A schedule as JSON types."""
    times = {"next_at": iso(one.next_at), "last_at": iso(one.last_at)}
    about = {"app": one.app, "name": one.name, "status": _status(one), **one.definition}
    return about | times | {"last_id": one.last_id, "error": one.error}


def _status(one: ScheduleRecord) -> str:
    return "orphaned" if one.orphaned else "paused" if one.paused else "active"


def _row(one: ScheduleRecord) -> tuple[object, ...]:
    status = _status(one)
    next_at = readable(one.next_at) if status == "active" else ""
    return (one.name, one.app, status, _times(one), next_at, readable(one.last_at), one.last_id, one.error)


def _times(one: ScheduleRecord) -> str:
    every, cron = one.definition.get("every"), one.definition.get("cron")
    return f"{cron} {one.definition.get('timezone')}" if cron else f"every {every:g} s" if every else ""

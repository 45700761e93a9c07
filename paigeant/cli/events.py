from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import click

from paigeant.cli.connect import app_or_urls, ask, for_reading, full_id, store_of
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import as_data, brief, iso, print_json_line
from paigeant.cli.text import one_line
from paigeant.records.workflow import EventRecord, WorkflowRecord
from paigeant.store import History

if TYPE_CHECKING:
    from paigeant.app import App


@click.command()
@click.argument("id")
@click.option("-f", "--follow", is_flag=True, help="Follow new events until the workflow ends.")
@click.option("--after", "--from", default=0, metavar="OFFSET", help="Print only events after this offset.")
@as_json
@connections
def events(id: str, follow: bool, after: int, as_json: bool) -> None:  # noqa: A002 - the argument's name in --help
    """Print the events of a workflow, one per line."""

    async def read(app: App) -> None:
        store = store_of(app)
        correlation_id = await full_id(store, id)
        workflow = app.workflow(correlation_id)
        found = workflow.events(after) if follow else _so_far(store, await workflow.record(), after)
        async for event in found:
            print_event(event, as_json=as_json)

    ask(for_reading(app_or_urls()), read)


async def _so_far(store: History, record: WorkflowRecord, after: int) -> AsyncIterator[EventRecord]:
    from paigeant.workflow.runs import Runs

    runs = Runs(record.steps)
    while batch := await store.events(record.correlation_id, after):
        for event in batch:
            yield runs.marked(event)
        after = batch[-1].offset


def print_event(event: EventRecord, *, as_json: bool) -> None:
    """One event on one line."""
    if as_json:
        print_json_line(as_data(event))
        return
    data = event.data
    words = [str(data.get("activity") or data.get("name") or "")]
    if data.get("attempt", 1) > 1:
        words.append(f"attempt {data['attempt']}")
    if event.abandoned:
        words.append("(abandoned)")
    words.extend(_details(data))
    click.echo(one_line(f"{iso(event.at)}  {event.type:<21}  {'  '.join(filter(None, words))}".rstrip()))


def _details(data: dict[str, Any]) -> list[str]:
    if isinstance(error := data.get("error"), dict):
        return [f"{error['type']}: {error['message']}"]
    if data.get("omitted"):
        return [f"({data['omitted']} bytes)"]
    return [brief(data["value"])] if "value" in data else [str(data.get("reason", ""))]

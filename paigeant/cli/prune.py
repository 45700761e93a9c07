from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from paigeant.cli.connect import app_or_urls, ask, for_reading, store_of
from paigeant.cli.errors import WrongUsage
from paigeant.cli.options import age, as_json, connections
from paigeant.cli.output import iso, print_json, print_table, readable
from paigeant.records.workflow import TERMINAL

if TYPE_CHECKING:
    from paigeant.app import App
    from paigeant.records.workflow import Family


@click.command()
@click.option(
    "--older-than",
    metavar="AGE",
    required=True,
    callback=age,
    help="Only workflows that ended longer ago than this: 90 (seconds), 15m, 2h, 30d.",
)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(sorted(one.value for one in TERMINAL)),
    help="Only workflows with this final status (repeatable).",
)
@click.option("--values", is_flag=True, help="Delete only the large values of these workflows.")
@click.option("--dry-run", is_flag=True, help="List the workflows and delete nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@as_json
@connections
def prune(older_than: float, statuses: tuple[str, ...], values: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete the history of ended workflows, of the workflows that they dispatched, and of their forks.

    If one of these still runs, waits or has a dead letter, the command keeps all of them.
    """

    async def found(app: App) -> list[Family]:
        store_of(app)
        return [family async for family in app.retention.families(older_than, statuses)]

    async def delete(app: App) -> int:
        store_of(app)
        return await (app.retention.drop_values if values else app.retention.forget)(older_than, statuses)

    app = for_reading(app_or_urls())
    if dry_run:
        _show(ask(app, found), as_json)
        return
    if not (yes or values):
        _confirm(older_than)
    before, deleted = iso(app.retention.since(older_than)), ask(app, delete)
    if as_json:
        print_json({"before": before, "values" if values else "workflows": deleted})
    else:
        what = "value" if values else "workflow"
        click.echo(f"{deleted} {what}{'' if deleted == 1 else 's'} deleted")


def _show(found: list[Family], as_json: bool) -> None:
    if as_json:
        keys = ("correlation_id", "finished_at", "workflows")
        print_json([dict(zip(keys, (one.root, iso(one.ended_at), len(one.members)), strict=True)) for one in found])
    else:
        rows = [[one.root, readable(one.ended_at), len(one.members)] for one in found]
        print_table(["id", "ended (UTC)", "workflows"], rows, none="no workflow ended that long ago")


def _confirm(older_than: float) -> None:
    if not sys.stdin.isatty():
        raise WrongUsage("nothing was deleted: confirmation needs a terminal", hint="add: --yes")
    click.confirm(
        f"Delete the history of all workflows that ended more than {older_than:g} s ago?", abort=True, err=True
    )

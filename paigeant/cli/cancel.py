from __future__ import annotations

import click

from paigeant.cli.options import as_json, connections
from paigeant.cli.steering import steer


@click.command()
@click.argument("id")
@click.option("--compensate", is_flag=True, help="Take back what was done, then end.")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the history.")
@click.option("--by", metavar="NAME", help="Who asks for it; kept in the history.")
@as_json
@connections
def cancel(id: str, compensate: bool, reason: str, by: str | None, as_json: bool) -> None:  # noqa: A002 - the argument's name in --help
    """End a workflow, and those it dispatched. A running step is told, and interrupted after a grace time."""
    steer(id, lambda workflow: workflow.cancel(compensate=compensate, reason=reason, by=by), as_json=as_json)

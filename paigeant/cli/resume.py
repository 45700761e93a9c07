from __future__ import annotations

import click

from paigeant.cli.options import as_json, connections
from paigeant.cli.steering import steer


@click.command()
@click.argument("id")
@click.option("--by", metavar="NAME", help="Your name, recorded in the history.")
@as_json
@connections
def resume(id: str, by: str | None, as_json: bool) -> None:  # noqa: A002 - the argument's name in --help
    """Resume a paused workflow."""
    steer(id, lambda workflow: workflow.resume(by=by), as_json=as_json)

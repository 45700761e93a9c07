from __future__ import annotations

import click

from paigeant.cli.options import as_json, connections
from paigeant.cli.steering import steer


@click.command()
@click.argument("id")
@click.option("--by", metavar="NAME", help="Your name, recorded in the history.")
@as_json
@connections
def pause(id: str, by: str | None, as_json: bool) -> None:  # noqa: A002 - the argument's name in --help
    """Pause a workflow before its next step. Running steps finish."""
    steer(id, lambda workflow: workflow.pause(by=by), as_json=as_json)

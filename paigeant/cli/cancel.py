from __future__ import annotations

import click

from paigeant.cli.options import as_json, connections
from paigeant.cli.steering import steer


@click.command()
@click.argument("id")
@click.option("--compensate", is_flag=True, help="Compensate the completed steps, then end.")
@click.option("--reason", default="", metavar="TEXT", help="Reason, recorded in the history.")
@click.option("--by", metavar="NAME", help="Your name, recorded in the history.")
@as_json
@connections
def cancel(id: str, compensate: bool, reason: str, by: str | None, as_json: bool) -> None:  # noqa: A002 - the argument's name in --help
    """Cancel a workflow and the workflows that it dispatched.

    A running step is notified, and interrupted after a grace period.
    """
    steer(id, lambda workflow: workflow.cancel(compensate=compensate, reason=reason, by=by), as_json=as_json)

"""What the commands that steer a workflow print."""

from __future__ import annotations

import click

from paigeant.cli.output import print_json


def print_standing(correlation_id: str, status: str, *, as_json: bool) -> None:
    """How the workflow stands now."""
    if as_json:
        print_json({"correlation_id": correlation_id, "status": status})
    else:
        click.echo(f"{correlation_id}  {status}")

from __future__ import annotations

import click

from paigeant.cli.deciding import decide
from paigeant.cli.given import json_object
from paigeant.cli.options import as_json, connections


@click.command()
@click.argument("id")
@click.option("--reason", default="", help="Why; kept in the history.")
@click.option("--arguments", metavar="JSON", help="Other arguments than those asked about, as an object.")
@click.option("--by", metavar="NAME", help="Who approves. Default: the user of this machine.")
@as_json
@connections
def approve(id: str, reason: str, arguments: str | None, by: str | None, as_json: bool) -> None:  # noqa: A002 - in --help
    """Approve what a workflow waits for."""
    edited = {} if arguments is None else {"arguments": json_object(arguments, "--arguments")}
    decide(id, approved=True, reason=reason, by=by, as_json=as_json, **edited)

from __future__ import annotations

import click

from paigeant.cli.deciding import decide, question
from paigeant.cli.given import json_object
from paigeant.cli.options import as_json, connections


@click.command()
@click.argument("id")
@question
@click.option("--reason", default="", help="Reason, recorded in the history.")
@click.option("--arguments", metavar="JSON", help="Replace the arguments of the request: a JSON object, or @FILE.")
@click.option("--by", metavar="NAME", help="Name to record as the approver. Default: your user name.")
@as_json
@connections
def approve(
    id: str,  # noqa: A002 - the argument's name in --help
    question: str | None,
    reason: str,
    arguments: str | None,
    by: str | None,
    as_json: bool,
) -> None:
    """Approve a request of the workflow ID."""
    edited = {} if arguments is None else {"arguments": json_object(arguments, "--arguments")}
    decide(id, question, approved=True, reason=reason, by=by, as_json=as_json, **edited)

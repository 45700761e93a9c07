from __future__ import annotations

import click

from paigeant.cli.deciding import decide, question
from paigeant.cli.options import as_json, connections


@click.command()
@click.argument("id")
@question
@click.option("--reason", default="", help="Reason, recorded in the history.")
@click.option("--by", metavar="NAME", help="Name to record as the decider. Default: your user name.")
@as_json
@connections
def deny(
    id: str,  # noqa: A002 - the argument's name in --help
    question: str | None,
    reason: str,
    by: str | None,
    as_json: bool,
) -> None:
    """Deny a request of the workflow ID."""
    decide(id, question, approved=False, reason=reason, by=by, as_json=as_json)

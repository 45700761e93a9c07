from __future__ import annotations

import click

from paigeant.cli.deciding import decide
from paigeant.cli.options import as_json, connections


@click.command()
@click.argument("id")
@click.option("--reason", default="", help="Why; kept in the history.")
@click.option("--by", metavar="NAME", help="Who denies. Default: the user of this machine.")
@as_json
@connections
def deny(id: str, reason: str, by: str | None, as_json: bool) -> None:  # noqa: A002 - the argument's name in --help
    """Deny what a workflow waits for."""
    decide(id, approved=False, reason=reason, by=by, as_json=as_json)

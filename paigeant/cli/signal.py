from __future__ import annotations

from typing import Any

import click

from paigeant.cli.connect import ask_to_send, full_id, store_of
from paigeant.cli.errors import WrongUsage
from paigeant.cli.given import parsed
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import print_json
from paigeant.cli.text import say


@click.command()
@click.argument("id")
@click.argument("name")
@click.argument("value", default="null")
@click.option("--by", metavar="NAME", help="Your name, recorded in the history.")
@as_json
@connections
def signal(id: str, name: str, value: str, by: str | None, as_json: bool) -> None:  # noqa: A002 - as in --help
    """Send the signal NAME to a workflow, with a JSON VALUE (default: null)."""
    try:
        given = parsed(value)
    except ValueError as error:
        raise WrongUsage(f"{value!r} is not JSON: {error}", hint="quote text twice: '\"text\"'") from error

    async def send(app: Any) -> str:
        workflow = app.workflow(await full_id(store_of(app), id))
        await workflow.signal(name, given, by=by)
        return str(workflow.correlation_id)

    correlation_id = ask_to_send(send)
    if as_json:
        print_json({"correlation_id": correlation_id, "name": name, "value": given, "by": by})
    else:
        say(f"{correlation_id}  signalled {name!r}")

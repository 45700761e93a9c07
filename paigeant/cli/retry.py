from __future__ import annotations

from typing import Any

import click

from paigeant.cli.connect import app_or_urls, ask, for_reading, full_id, store_of
from paigeant.cli.options import as_json, connections, fresh
from paigeant.cli.output import print_json


@click.command()
@click.argument("id")
@click.option("--by", metavar="NAME", help="Who asks for it; kept in the history.")
@fresh
@as_json
@connections
def retry(id: str, by: str | None, fresh: bool, as_json: bool) -> None:  # noqa: A002 - the argument's name in --help
    """Try the steps of a workflow again that wait for an operator because their attempts were used up.

    A workflow that has failed goes on from the step that failed. Each step starts with all the attempts of its policy.
    An agent goes on where it was: it does not repeat the model requests and tool calls that it has finished.
    """

    async def send(app: Any) -> tuple[str, list[str]]:
        workflow = app.workflow(await full_id(store_of(app), id))
        return workflow.correlation_id, await workflow.retry(by=by, fresh=fresh)

    correlation_id, steps = ask(for_reading(app_or_urls()), send)
    if as_json:
        print_json({"correlation_id": correlation_id, "steps": steps})
    else:
        click.echo(f"{correlation_id}  trying again: step {', '.join(steps)}")

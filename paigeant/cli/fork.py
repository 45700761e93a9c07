from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from paigeant.cli.connect import app_or_urls, ask, for_reading, full_id, store_of
from paigeant.cli.given import json_object
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import print_json

if TYPE_CHECKING:
    from paigeant.app import App


@click.command()
@click.argument("id")
@click.option("--from", "step", required=True, metavar="STEP", help="The step, by name or id, to begin with.")
@click.option(
    "--input", "-i", "arguments", metavar="JSON", help="Arguments of that step, others stay; @FILE reads a file."
)
@click.option("--prompt", metavar="TEXT", help="Another prompt, of an agent's step.")
@click.option("--variables", metavar="JSON", help="Variables of the workflow, others stay; @FILE reads a file.")
@click.option("--id", "new_id", metavar="ID", help="The fork's id; default: a new one.")
@click.option("--deadline", type=float, metavar="SECONDS", help="How long from now the fork may take.")
@as_json
@connections
def fork(
    id: str,  # noqa: A002 - the argument's name in --help
    step: str,
    arguments: str | None,
    prompt: str | None,
    variables: str | None,
    new_id: str | None,
    deadline: float | None,
    as_json: bool,
) -> None:
    """Begin another workflow from a step of the workflow ID, with what the steps before it gave.

    None of those runs again, and the workflow ID stays as it is. With -A APP the arguments are checked.
    """
    edits: dict[str, Any] = {
        "arguments": json_object(arguments, "--input") if arguments else None,
        "prompt": prompt,
        "variables": json_object(variables, "--variables") if variables else None,
    }

    async def forked(app: App) -> tuple[str, str]:
        workflow = app.workflow(await full_id(store_of(app), id))
        await app.connect()
        made = await workflow.fork(step, id=new_id, deadline=deadline, **edits)
        return workflow.correlation_id, made.correlation_id

    origin, made = ask(for_reading(app_or_urls()), forked)
    if as_json:
        print_json({"correlation_id": made, "forked_from": origin})
    else:
        click.echo(made)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from paigeant.cli.connect import ask_to_send, full_id, store_of
from paigeant.cli.given import json_object
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import print_json
from paigeant.cli.text import say

if TYPE_CHECKING:
    from paigeant.app import App


@click.command()
@click.argument("id")
@click.option("--from", "step", required=True, metavar="STEP", help="First step of the fork, by name or id.")
@click.option(
    "--input", "-i", "arguments", metavar="JSON", help="Arguments to change in that step: a JSON object, or @FILE."
)
@click.option("--prompt", metavar="TEXT", help="New prompt of an agent step.")
@click.option("--variables", metavar="JSON", help="Variables to change: a JSON object, or @FILE.")
@click.option("--id", "new_id", metavar="ID", help="Id of the fork. Default: a new id.")
@click.option("--deadline", type=float, metavar="SECONDS", help="Maximum duration of the fork, from now.")
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
    """Start a new workflow from a step of the workflow ID, with the outputs of the steps before it.

    The steps before it do not run again, and the workflow ID does not change. With -A APP, the command checks the
    arguments.
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

    origin, made = ask_to_send(forked)
    if as_json:
        print_json({"correlation_id": made, "forked_from": origin})
    else:
        say(made)

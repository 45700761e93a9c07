from __future__ import annotations

from typing import Any

import click

from paigeant.cli.connect import ask_to_send, full_id, store_of
from paigeant.cli.options import as_json, connections, fresh
from paigeant.cli.output import print_json
from paigeant.cli.text import say


@click.command()
@click.argument("id")
@click.option("--by", metavar="NAME", help="Your name, recorded in the history.")
@fresh
@as_json
@connections
def retry(id: str, by: str | None, fresh: bool, as_json: bool) -> None:  # noqa: A002 - the argument's name in --help
    """Retry the steps of a workflow that failed or that wait for an operator.

    A failed workflow continues from the step that failed. Each step gets all attempts of its retry policy again. An
    agent resumes from its journal: it does not repeat finished model requests and tool calls.
    """

    async def send(app: Any) -> tuple[str, list[str]]:
        workflow = app.workflow(await full_id(store_of(app), id))
        return workflow.correlation_id, await workflow.retry(by=by, fresh=fresh)

    correlation_id, steps = ask_to_send(send)
    if as_json:
        print_json({"correlation_id": correlation_id, "steps": steps})
    else:
        say(f"{correlation_id}  retrying step {', '.join(steps)}")

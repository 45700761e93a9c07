from __future__ import annotations

from typing import Any

import click

from paigeant.cli.connect import app_or_urls, ask, for_reading, full_id, store_of
from paigeant.cli.options import as_json, connections
from paigeant.cli.steering import print_standing


@click.command()
@click.argument("id")
@click.option("--by", metavar="NAME", help="Who asks for it; kept in the history.")
@as_json
@connections
def resume(id: str, by: str | None, as_json: bool) -> None:  # noqa: A002 - the argument's name in --help
    """Let a paused workflow go on."""

    async def send(app: Any) -> tuple[str, str]:
        workflow = app.workflow(await full_id(store_of(app), id))
        await workflow.resume(by=by)
        return workflow.correlation_id, (await workflow.status()).value

    correlation_id, status = ask(for_reading(app_or_urls()), send)
    print_standing(correlation_id, status, as_json=as_json)

from __future__ import annotations

from typing import Any

import click

from paigeant.cli.connect import app_or_urls, ask, for_reading, full_id, store_of
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import print_json


@click.command()
@click.argument("id")
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Maximum time to wait. Default: no limit.")
@as_json
@connections
def result(id: str, timeout: float | None, as_json: bool) -> None:  # noqa: A002 - the argument's name in --help
    """Wait for a workflow and print its result as JSON.

    The exit code is 1 if the workflow failed, and 75 if it did not end in time.
    """
    del as_json  # it always is

    async def wait(app: Any) -> Any:
        return await app.workflow(await full_id(store_of(app), id)).result(timeout)

    print_json(ask(for_reading(app_or_urls()), wait))

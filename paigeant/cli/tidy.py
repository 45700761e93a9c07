from __future__ import annotations

from typing import Any

import click

from paigeant.cli.connect import app_or_urls, ask, for_reading, store_of
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import iso, print_json

_DAY = 86_400.0


@click.command()
@click.option(
    "--older-than", metavar="DAYS", required=True, type=click.FloatRange(0), help="How long ago they must have ended."
)
@as_json
@connections
def tidy(older_than: float, as_json: bool) -> None:
    """Delete the large values that were kept for workflows which have ended; what is known of them stays."""

    async def delete(app: Any) -> tuple[float, int]:
        store_of(app)
        before = app.clock.now() - older_than * _DAY
        return before, await app.dispatcher.tidy(before)

    before, deleted = ask(for_reading(app_or_urls()), delete)
    if as_json:
        print_json({"before": iso(before), "deleted": deleted})
    else:
        click.echo("1 value deleted" if deleted == 1 else f"{deleted} values deleted")

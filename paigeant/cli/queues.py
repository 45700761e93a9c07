from __future__ import annotations

from typing import TYPE_CHECKING

import click

from paigeant.cli.connect import app_or_urls, ask, for_reading
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import print_json, print_table

if TYPE_CHECKING:
    from paigeant.app import App


@click.command()
@as_json
@connections
def queues(as_json: bool) -> None:
    """List queues with their message counts.

    Some brokers cannot list their queues. With -A, the command asks them for the queues of the App.
    """
    found = ask(for_reading(app_or_urls(), queues=True), depths)
    if as_json:
        print_json([{"queue": name, "depth": depth} for name, depth in found.items()])
    else:
        print_table(("queue", "depth"), found.items(), none="no queues")


async def depths(app: App) -> dict[str, int]:
    """Every queue that the broker or the App knows, with its depth."""
    found = dict(await app.transport.queues())
    for activity in app.activities.values():
        queue = app.queue_of(activity)
        if queue not in found:
            found[queue] = await app.transport.depth(queue)
    return dict(sorted(found.items()))

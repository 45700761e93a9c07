from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from paigeant.cli.connect import app_or_urls, ask, for_reading, unknown
from paigeant.cli.errors import NotFound, WrongUsage
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import print_json
from paigeant.cli.queues import depths

if TYPE_CHECKING:
    from paigeant.app import App


@click.command()
@click.argument("queue", required=False)
@click.option("--all", "every", is_flag=True, help="Every queue that `paigeant queues` lists.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@as_json
@connections
def purge(queue: str | None, every: bool, yes: bool, as_json: bool) -> None:
    """Delete the messages that wait in QUEUE, by its full name as `paigeant queues` lists it.

    What a worker holds is left to it. The workflows that lose their message stay as they are, unfinished.
    """
    if (queue is None) != every:
        raise WrongUsage("say which queue: one by its name, or --all", hint="see: paigeant queues")
    app = for_reading(app_or_urls())

    async def delete(app: App) -> dict[str, int]:
        waiting = await depths(app)
        chosen = waiting if queue is None else {queue: await _depth(app, queue, waiting)}
        if not yes:
            _confirm(chosen)
        return {name: await app.transport.purge(name) for name in chosen}

    deleted = ask(app, delete)
    if as_json:
        print_json([{"queue": name, "deleted": count} for name, count in deleted.items()])
        return
    for name, count in deleted.items():
        click.echo(f"{name}  {count} deleted")


async def _depth(app: App, queue: str, waiting: dict[str, int]) -> int:
    """How many messages wait there. A broker that cannot list its queues is believed to have this one."""
    from paigeant.transport import Durability

    if queue in waiting:
        return waiting[queue]
    if app.transport.features.durability in (Durability.TRANSACTIONAL, Durability.VOLATILE):
        raise unknown("queue", queue, list(waiting), kind=NotFound)
    return await app.transport.depth(queue)


def _confirm(chosen: dict[str, int]) -> None:
    if not sys.stdin.isatty():
        raise WrongUsage("not deleting anything unasked: there is no terminal to ask on", hint="add: --yes")
    names = ", ".join(chosen) or "no queue"
    click.confirm(f"Delete {sum(chosen.values())} messages from {names}?", abort=True, err=True)

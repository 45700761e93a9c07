from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from paigeant.cli.connect import app_or_urls, ask, for_reading, for_sending, is_broker_named, settle_broker, unknown
from paigeant.cli.errors import NotFound, WrongUsage
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import print_json
from paigeant.cli.queues import depths
from paigeant.cli.text import say
from paigeant.runtime.characters import escaped

if TYPE_CHECKING:
    from paigeant.app import App


@click.command()
@click.argument("queue", required=False)
@click.option("--all", "every", is_flag=True, help="Purge every queue that `paigeant queues` lists.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@as_json
@connections
def purge(queue: str | None, every: bool, yes: bool, as_json: bool) -> None:
    """Delete the waiting messages of QUEUE, a full name from `paigeant queues`.

    Messages that a worker has claimed are not deleted. A workflow that loses its message stays unfinished.
    """
    if (queue is None) != every:
        raise WrongUsage("which queue? Give one name, or --all", hint="see: paigeant queues")
    app = app_or_urls()
    is_named = is_broker_named(app)
    app = for_reading(app, queues=True) if is_named else for_sending(app)

    async def delete(app: App) -> dict[str, int]:
        if not is_named:
            await settle_broker(app)
        waiting = await depths(app)
        chosen = waiting if queue is None else {queue: await _depth(app, queue, waiting)}
        if not yes:
            _confirm(chosen)
        return {name: await _purge(app, name) for name in chosen}

    deleted = ask(app, delete)
    if as_json:
        print_json([{"queue": name, "deleted": count} for name, count in deleted.items()])
        return
    for name, count in deleted.items():
        say(f"{name}  {count} deleted")


async def _purge(app: App, queue: str) -> int:
    """Delete the waiting messages, and stop workers from publishing them again from a separate store."""
    deleted = await app.transport.purge(queue)
    if app.store is not None and not app.dispatcher.joined:
        await app.store.purge(queue)
    return deleted


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
        raise WrongUsage("nothing was deleted: confirmation needs a terminal", hint="add: --yes")
    names = escaped(", ".join(chosen), breaks=True) or "no queue"
    click.confirm(f"Delete {sum(chosen.values())} messages from {names}?", abort=True, err=True)

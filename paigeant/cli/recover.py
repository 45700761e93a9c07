from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from paigeant.cli.connect import app_or_urls, ask, for_reading, store_of
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import print_json, print_table

if TYPE_CHECKING:
    from paigeant.app import App


@click.command()
@click.option(
    "--grace",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="How long a message must be overdue, at least 1. Default: PAIGEANT_RECOVERY_GRACE, 60.",
)
@as_json
@connections
def recover(grace: float | None, as_json: bool) -> None:
    """Send again, from the store, the messages that the broker has lost.

    Lost is what is overdue, run by no living worker, and not in its queue, which must be empty. No finished step runs
    again. Workers do this by themselves; where broker and store are one database, there is nothing to do.
    """

    async def refilled(app: App) -> dict[str, int]:
        from paigeant.worker.recovery import is_needed, refill

        store = store_of(app)
        await app.connect()
        if not is_needed(app.dispatcher):
            return {}
        overdue_by = app.settings.recovery_grace if grace is None else grace
        return Counter(one.queue for one in await refill(app.transport, store, overdue_by))

    sent = sorted(ask(for_reading(app_or_urls()), refilled).items())
    if as_json:
        print_json([{"queue": queue, "sent": count} for queue, count in sent])
    else:
        print_table(("queue", "sent"), sent, none="nothing was lost")

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from paigeant.cli.connect import ask_to_send, store_of
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import print_json, print_table

if TYPE_CHECKING:
    from paigeant.app import App


@click.command()
@click.option(
    "--grace",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="Only messages that are overdue for this long (at least 1). Default: PAIGEANT_RECOVERY_GRACE, 60.",
)
@as_json
@connections
def recover(grace: float | None, as_json: bool) -> None:
    """Publish messages again, from the store, that the broker lost.

    A message counts as lost when it is overdue and no live worker has claimed it. If it still waits in its queue,
    workers drop the copy. No finished step runs again. Workers also do this automatically. If broker and store are the
    same database, there is nothing to do.
    """

    async def refilled(app: App) -> dict[str, int]:
        from paigeant.worker.recovery import MOST, is_needed, refill

        store = store_of(app)
        await app.connect()
        if not is_needed(app.dispatcher):
            return {}
        overdue_by = app.settings.recovery_grace if grace is None else grace
        sent = Counter[str]()
        while lost := await refill(app.transport, store, overdue_by, dispatcher=app.dispatcher):
            sent.update(one.queue for one in lost)
            if len(lost) < MOST:
                break
        return sent

    sent = sorted(ask_to_send(refilled).items())
    if as_json:
        print_json([{"queue": queue, "sent": count} for queue, count in sent])
    else:
        print_table(("queue", "sent"), sent, none="no message is lost")

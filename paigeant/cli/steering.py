"""Code that the commands cancel, pause and resume share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from paigeant.cli.connect import ask_to_send, full_id, store_of
from paigeant.cli.output import print_json
from paigeant.cli.text import say

if TYPE_CHECKING:
    from paigeant.workflow import Workflow


def steer(beginning: str, change: Callable[[Workflow], Awaitable[object]], *, as_json: bool) -> None:
    """Change the workflow whose id begins with this text, and print its new status."""

    async def send(app: Any) -> tuple[str, str]:
        workflow = app.workflow(await full_id(store_of(app), beginning))
        await change(workflow)
        return workflow.correlation_id, (await workflow.status()).value

    correlation_id, status = ask_to_send(send)
    if as_json:
        print_json({"correlation_id": correlation_id, "status": status})
    else:
        say(f"{correlation_id}  {status}")

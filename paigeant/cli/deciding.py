"""What ``approve`` and ``deny`` share."""

from __future__ import annotations

import getpass
from typing import Any

import click

from paigeant.cli.connect import app_or_urls, ask, for_reading, full_id, store_of
from paigeant.cli.output import print_json


def decide(beginning: str, *, as_json: bool, **said: Any) -> None:
    """Say it to the workflow whose id begins so, and print that."""
    said["by"] = said.get("by") or _user()

    async def send(app: Any) -> str:
        workflow = app.workflow(await full_id(store_of(app), beginning))
        await workflow.decide(**said)
        return str(workflow.correlation_id)

    correlation_id = ask(for_reading(app_or_urls()), send)
    if as_json:
        print_json({"correlation_id": correlation_id, **said})
    else:
        click.echo(f"{correlation_id}  {'approved' if said['approved'] else 'denied'} by {said['by']}")


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a user database
        return None

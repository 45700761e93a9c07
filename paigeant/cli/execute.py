from __future__ import annotations

from typing import Any

import click

from paigeant.cli.worker import run, worker_options


@click.command()
@click.argument("name")
@worker_options
def execute(name: str, **options: Any) -> None:
    """Run the steps of one activity: the same as `worker --only NAME`."""
    run([name], **options)

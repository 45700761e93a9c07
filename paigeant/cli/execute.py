from __future__ import annotations

from typing import Any

import click

from paigeant.cli.options import Options
from paigeant.cli.worker import run, worker_options


@click.command()
@click.argument("name")
@click.argument("module", required=False)
@worker_options
def execute(name: str, module: str | None, **options: Any) -> None:
    """Run the steps of one activity or agent: the same as `worker -A MODULE --only NAME`.

    Without MODULE it is sought in the App that is named as for other commands; where none is, in the module here that
    has an App, a dispatcher or agents, if it is the only one.
    """
    said = Options.current()
    said.app = module or said.app
    run([name], or_only_candidate=True, **options)

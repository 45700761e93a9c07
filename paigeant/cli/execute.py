from __future__ import annotations

from typing import Any

import click

from paigeant.cli.options import Options, connections
from paigeant.cli.worker import run, worker_options


@click.command()
@click.argument("name")
@click.argument("module", required=False)
@worker_options
@connections
def execute(name: str, module: str | None, **options: Any) -> None:
    """Run a worker for one activity or agent: the same as `worker -A MODULE --only NAME`.

    Without MODULE, the command uses -A or the settings. Without these, it uses the only module in this folder that
    defines an App, a dispatcher or agents.
    """
    said = Options.current()
    said.app = module or said.app
    run([name], or_only_candidate=True, **options)

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from paigeant.cli.connect import app_or_urls, ask
from paigeant.cli.errors import UNREACHABLE
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import print_json

if TYPE_CHECKING:
    from paigeant.app import App
    from paigeant.doctor import Finding


@click.command()
@as_json
@connections
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Check the installation, the broker and the store; exits with 69 if something does not work."""
    findings = ask(app_or_urls(), _examine)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    if any(finding.verdict == "problem" for finding in findings):
        context.exit(UNREACHABLE)


async def _examine(app: App) -> list[Finding]:
    from paigeant.doctor import examine

    return [finding async for finding in examine(app)]


def _print(findings: list[Finding]) -> None:
    for finding in findings:
        click.echo(f"{finding.verdict:<8} {finding.name}: {finding.found}")
        if finding.advice:
            click.echo(f"{'':<8} {finding.advice}")

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from paigeant.cli.connect import app_or_urls, ask, settings_in_force
from paigeant.cli.errors import UNREACHABLE
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import print_json
from paigeant.cli.text import say
from paigeant.runtime.characters import escaped

if TYPE_CHECKING:
    from paigeant.app import App
    from paigeant.doctor import Finding

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@as_json
@click.option(
    "--prove", "does_prove", is_flag=True, help="Measure the durability of this broker (takes half a minute)."
)
@click.option(
    "--lease",
    type=click.FloatRange(min=0.5),
    metavar="SECONDS",
    help="Lease for --prove. Default: 2.",
)
@connections
@click.pass_context
def doctor(context: click.Context, as_json: bool, does_prove: bool, lease: float | None) -> None:
    """Check the installation, the broker and the store. The exit code is 69 if a check fails.

    With --prove, the command kills processes and cuts connections on purpose. It uses its own queues and deletes them.
    """

    async def look(app: App) -> dict[str, list[Finding]]:
        from paigeant.doctor import LEASE, examine, prove

        say: Callable[[Finding], None] = (lambda _: None) if as_json else _print
        found = {"checks": await _each(examine(app), say)}
        if does_prove:
            _hush()
            found["proof"] = await _each(prove(app.settings.broker_url, lease or LEASE), say)
        return found

    found = ask(app_or_urls(), look)
    if as_json:
        print_json({part: [asdict(one) for one in findings] for part, findings in found.items()})
    if any(one.verdict == "fail" for findings in found.values() for one in findings):
        context.exit(UNREACHABLE)


async def _each(findings: AsyncIterator[Finding], say: Callable[[Finding], None]) -> list[Finding]:
    """Report each finding as soon as it is ready."""
    found = []
    async for one in findings:
        say(one)
        found.append(one)
    return found


def _print(finding: Finding) -> None:
    verdict = click.style(f"{finding.verdict:<5}", fg=_COLOURS[finding.verdict])
    click.echo(f"{verdict} {finding.name}: {escaped(finding.found)}")
    if finding.advice:
        say(f"{'':<5} {finding.advice}")


def _hush() -> None:
    """Hide warnings: from here on, the proof breaks connections on purpose."""
    settings_in_force("error")

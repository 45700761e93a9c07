from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paigeant.cli.connect import app_or_urls, ask, missing_file, settings_in_force
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
        found = {"checks": [*await _each(_surroundings(missing), say), *await _each(examine(app), say)]}
        if does_prove:
            _hush()
            found["proof"] = await _each(prove(app.settings.broker_url, lease or LEASE), say)
        return found

    app = app_or_urls()
    with _without_traces(app) as missing:
        found = ask(app, look)
    if as_json:
        print_json({part: [asdict(one) for one in findings] for part, findings in found.items()})
    if any(one.verdict == "fail" for findings in found.values() for one in findings):
        context.exit(UNREACHABLE)


@contextmanager
def _without_traces(app: App) -> Iterator[Path | None]:
    """Let the App use new files in a temporary folder in place of SQLite files that do not exist yet.

    Yields the first file that does not exist, or None.
    """
    urls = (app.settings.broker_url, app.settings.store_url)
    missing = next((path for url in urls if (path := missing_file(url)) is not None), None)
    if missing is None or not os.access(missing.parent, os.W_OK):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix=".paigeant-doctor-", dir=missing.parent) as folder:
        broker, store = (_moved(url, folder) if missing_file(url) else None for url in urls)
        app.use(broker=broker, store=store)
        yield missing


def _moved(url: str | None, folder: str) -> str:
    """The URL of a SQLite file of the same name in another folder."""
    scheme, _, rest = (url or "").partition(":///")
    path, mark, options = rest.partition("?")
    return f"{scheme}:///{Path(folder, Path(path).name).absolute()}{mark}{options}"


async def _surroundings(missing: Path | None) -> AsyncIterator[Finding]:
    """Which settings come from files of the working directory, and which file does not exist yet."""
    from paigeant.cli.config import places
    from paigeant.config import Settings
    from paigeant.doctor import Finding, Verdict

    named = {file: sorted(places()[file].keys() & Settings.model_fields) for file in (".env", "pyproject.toml")}
    told = [f"{', '.join(names)} from {file}" for file, names in named.items() if names]
    yield Finding("sources", Verdict.OK, "; ".join(told) or "no setting comes from a file of this folder")
    if missing is not None:
        found = f"there is no {missing} yet: the checks use a temporary file in its folder"
        yield Finding("database", Verdict.OK, found)


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

"""Options of several commands, and their values."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


@dataclass(slots=True)
class Options:
    """The values of the options, before or after the command name. The last one counts."""

    app: str | None = None
    broker: str | None = None
    store: str | None = None
    traceback: bool = False

    @classmethod
    def current(cls) -> Options:
        """The options of the command that runs."""
        return click.get_current_context().find_root().ensure_object(cls)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        setattr(context.find_root().ensure_object(Options), parameter.name or "", value)


def common() -> list[click.Parameter]:
    """The options that every command takes, and that may stand before it as well."""
    return [
        click.Option(
            ["-A", "--app"],
            metavar="APP",
            expose_value=False,
            callback=_remember,
            help="App to use: module, module:attr, package or path/file.py. Default: PAIGEANT_APP, "
            "[tool.paigeant] app.",
        ),
        click.Option(
            ["--traceback"], is_flag=True, expose_value=False, callback=_remember, help="Show full tracebacks."
        ),
    ]


def connections(command: F) -> F:
    """Add ``-b/--broker`` and ``--store`` to a command."""
    store = click.option(
        "--store",
        metavar="URL",
        expose_value=False,
        callback=_remember,
        help="Store URL. Default: the store of the App or the settings.",
    )
    broker = click.option(
        "-b",
        "--broker",
        metavar="URL",
        expose_value=False,
        callback=_remember,
        help="Broker URL. Default: the broker of the App or the settings.",
    )
    return broker(store(command))


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

fresh = click.option(
    "--fresh", is_flag=True, help="Restart the agent from scratch; all model calls are paid for again."
)


def age(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """Reads an AGE: seconds."""
    if value is None:
        return None
    found = re.fullmatch(r"(?P<count>\d+(\.\d+)?)(?P<unit>[smhd]?)", value.strip())
    if found is None:
        raise click.BadParameter(f"{value!r} is not an age: use seconds, or 15m, 2h, 7d")
    return float(found["count"]) * _UNITS[found["unit"]]


def ask_version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    """Print the version and leave."""
    if value and not context.resilient_parsing:
        from paigeant import __version__

        click.echo(f"paigeant {__version__}")
        context.exit()

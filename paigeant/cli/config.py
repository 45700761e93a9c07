from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from paigeant.cli.connect import settings_in_force
from paigeant.cli.options import Options, as_json, connections
from paigeant.cli.output import print_json, print_table
from paigeant.runtime.urls import masked

if TYPE_CHECKING:
    from paigeant.config import Settings


@click.command()
@as_json
@connections
def config(as_json: bool) -> None:
    """Print the effective settings and their sources. Passwords are masked.

    With -A, print the settings of the App, including the values set in its code.
    """
    outside = settings_in_force()
    inside = _of_the_app() if Options.current().app else outside
    found = [
        {"setting": name, "value": _shown(value), "source": _source(name, value, outside)}
        for name, value in inside.model_copy(update={"app": outside.app})
    ]
    if as_json:
        print_json(found)
    else:
        rows = [(one["setting"], _plain(one["value"]), one["source"]) for one in found]
        print_table(("setting", "value", "source"), rows, none="no settings")


def _of_the_app() -> Settings:
    from paigeant.cli.connect import app_or_urls

    return app_or_urls().settings


def _shown(value: Any) -> Any:
    return masked(value) if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    """A value for people: several of them with commas."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple | set | frozenset) else value


def _source(name: str, value: Any, outside: Settings) -> str:
    """The source of a setting: the first place, in order of precedence, that sets it."""
    said = {"app": Options.current().app, "broker_url": Options.current().broker, "store_url": Options.current().store}
    if said.get(name):
        return "command line"
    if value != getattr(outside, name):
        return "App(...)"
    return next((place for place, settings in places().items() if name in settings), "default")


def places() -> dict[str, dict[str, Any]]:
    """The settings that each place outside the program sets."""
    from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource, PyprojectTomlConfigSettingsSource

    from paigeant.config import Settings, older_name

    return {
        "environment": {**older_name(), **EnvSettingsSource(Settings)()},
        ".env": DotEnvSettingsSource(Settings)(),
        "pyproject.toml": PyprojectTomlConfigSettingsSource(Settings)(),
    }

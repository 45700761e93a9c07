"""Finds the Apps in a module, including those of dispatchers and of agents without a dispatcher."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from paigeant.app import App
from paigeant.errors import AppNotFound
from paigeant.runtime import beside
from paigeant.runway.dispatcher import NAME, WorkflowDispatcher


def app_of(value: object) -> App | None:
    """Return the value if it is an App, the App of a dispatcher, or None for anything else."""
    if isinstance(value, WorkflowDispatcher):
        return value.app
    return value if isinstance(value, App) else None


def apps_in(module: ModuleType) -> dict[str, App]:
    """Return the Apps of a module by variable name. An App with two variables is listed once.

    In a module without Apps, its agents without a dispatcher become the activities of one App.
    """
    found: dict[str, App] = {}
    for name, value in list(vars(module).items()):
        app = app_of(value)
        if app is not None and app not in found.values():
            found[name] = app
    return found or {app.name: app for app in loose_agents(module)}


def imported(name: str) -> ModuleType:
    """Import the module with this name from ``sys.path``, and after that from the working directory.

    Raises:
        AppNotFound: there is no such module, or a file here would be imported instead of a library that is not
            installed. Errors that the module itself raises pass unchanged.
    """
    here = Path.cwd()
    beside.append(here)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise AppNotFound(
            f"there is no module {error.name!r} in {here} or on sys.path",
            hint='for example: ActivityExecutor(transport, "writer", "package.module")',
        ) from error


def loose_agents(module: ModuleType) -> list[App]:
    """Return a list with one App for the module's agents without a dispatcher; empty if there are none."""
    if "paigeant.runway.agent" not in sys.modules:  # then no agent exists
        return []
    from paigeant.runway.agent import PaigeantAgent

    app = App(NAME)
    for name, agent in list(vars(module).items()):
        if isinstance(agent, PaigeantAgent) and agent.dispatcher is None:
            agent.name = agent.name or name
            if agent.name not in app.activities:
                app.activity(agent, name=agent.name)
    return [app] if app.activities else []

"""The Apps in a module, those behind dispatchers and loose agents included."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from paigeant.app import App
from paigeant.errors import AppNotFound
from paigeant.runway.dispatcher import NAME, WorkflowDispatcher


def app_of(value: object) -> App | None:
    """The App that this is, or that is behind this dispatcher."""
    if isinstance(value, WorkflowDispatcher):
        return value.app
    return value if isinstance(value, App) else None


def apps_in(module: ModuleType) -> dict[str, App]:
    """The Apps of a module by the variable that holds them; one with two names is one.

    Where there is none, the agents without a dispatcher are the activities of one.
    """
    found: dict[str, App] = {}
    for name, value in list(vars(module).items()):
        app = app_of(value)
        if app is not None and app not in found.values():
            found[name] = app
    return found or {app.name: app for app in loose_agents(module)}


def imported(name: str) -> ModuleType:
    """The module of this name, in the working directory or on ``sys.path``.

    Raises:
        AppNotFound: there is none; what the module itself raises is raised as it is.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
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
    """An App of the module's agents that have no dispatcher, if there are any."""
    if "paigeant.runway.agent" not in sys.modules:  # then nobody has made one
        return []
    from paigeant.runway.agent import PaigeantAgent

    app = App(NAME)
    for name, agent in list(vars(module).items()):
        if isinstance(agent, PaigeantAgent) and agent.dispatcher is None:
            agent.name = agent.name or name
            if agent.name not in app.activities:
                app.activity(agent, name=agent.name)
    return [app] if app.activities else []

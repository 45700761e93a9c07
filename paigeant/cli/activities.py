from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import click

from paigeant.cli.connect import named_app
from paigeant.cli.options import as_json
from paigeant.cli.output import brief, print_json, print_table

if TYPE_CHECKING:
    from paigeant.activity import Activity, Parameter


@click.command()
@as_json
def activities(as_json: bool) -> None:
    """List the activities of an App: name, queue, parameters, description."""
    app = named_app()
    found = [_described(one, app.queue_of(one)) for _, one in sorted(app.activities.items())]
    if as_json:
        print_json(found)
        return
    rows = [(one["name"], one["queue"], _signature(one["parameters"]), one["description"]) for one in found]
    print_table(("name", "queue", "parameters", "description"), rows, none=f"App {app.name!r} has no activities")


def _described(activity: Activity[..., Any], queue: str) -> dict[str, Any]:
    return {
        "name": activity.name,
        "queue": queue,
        "description": activity.description,
        "parameters": [_parameter(one) for one in activity.signature.open.values()],
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    from paigeant.values import jsonable

    described = {
        "name": parameter.name,
        "type": "Any" if parameter.annotation is Any else inspect.formatannotation(parameter.annotation),
        "required": parameter.is_required,
    }
    return described if parameter.is_required else described | {"default": jsonable(parameter.default)}


def _signature(parameters: list[dict[str, Any]]) -> str:
    return ", ".join(
        f"{one['name']}: {one['type']}" + (f" = {brief(one['default'], 30)}" if "default" in one else "")
        for one in parameters
    )

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from paigeant.cli.connect import ask_store, named_app, settings_in_force
from paigeant.cli.errors import warn
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import brief, print_json, print_table
from paigeant.records.offer import merged
from paigeant.runtime.lookalikes import look_alikes, told_apart

if TYPE_CHECKING:
    from paigeant.activity import Activity, Parameter


@click.command()
@click.option("--announced", is_flag=True, help="List the activities that live workers of all Apps serve.")
@as_json
@connections
def activities(announced: bool, as_json: bool) -> None:
    """List the activities of an App. Without an App, list the activities that live workers serve."""
    settings = settings_in_force()
    if announced or settings.app is None:
        _announced(as_json)
        return
    app = named_app(settings)
    found = [_described(one, app.queue_of(one)) for _, one in sorted(app.activities.items())]
    _warn_of_likes(app.activities)
    if as_json:
        print_json(found)
        return
    rows = [(one["name"], one["queue"], _signature(one["parameters"]), one["description"]) for one in found]
    print_table(("name", "queue", "parameters", "description"), rows, none=f"App {app.name!r} has no activities")


def _announced(as_json: bool) -> None:
    workers = ask_store(lambda store: store.workers())
    found = merged(offer for worker in workers if worker.alive for offer in worker.offers)
    _warn_of_likes(offer.name for offer, _ in found)
    if as_json:
        print_json([asdict(offer) | {"workers": times} for offer, times in found])
        return
    rows = [
        (one.name, one.queue, ", ".join(one.input.get("properties", {})), times, one.description)
        for one, times in found
    ]
    headers = ("name", "queue", "parameters", "workers", "description")
    print_table(headers, rows, none="no live worker serves an activity")


def _warn_of_likes(names: Iterable[str]) -> None:
    """Name activities that people cannot tell apart on a screen."""
    for group in look_alikes(names):
        warn(f"these activities look alike: {told_apart(group)}")


def _described(activity: Activity[..., Any], queue: str) -> dict[str, Any]:
    from paigeant.activity.offering import offer_of

    return asdict(offer_of(activity, queue)) | {
        "parameters": [_parameter(one) for one in activity.signature.open.values()],
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    from paigeant.wire.values import jsonable

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

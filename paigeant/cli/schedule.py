from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from paigeant.cli.connect import app_or_urls, ask, for_reading, named_app, store_of
from paigeant.cli.errors import WrongUsage
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import print_json
from paigeant.cli.schedules import as_data
from paigeant.cli.text import say

if TYPE_CHECKING:
    from paigeant.app import App
    from paigeant.records.workflow import ScheduleRecord


@click.command()
@click.argument("action", type=click.Choice(["pause", "resume", "run", "delete"]))
@click.argument("name")
@as_json
@connections
def schedule(action: str, name: str, as_json: bool) -> None:
    """Pause, resume, run or delete the schedule NAME.

    To run it, name its App with -A. You can delete a schedule that the code of its App no longer has.
    """
    if action == "run":
        _run(name, as_json=as_json)
    elif action == "delete":
        _delete(name, as_json=as_json)
    else:
        _turn(action, name, as_json=as_json)


def _run(name: str, *, as_json: bool) -> None:
    async def run(app: App) -> str | None:
        workflow = await app.schedules.run(name)
        return workflow.correlation_id if workflow is not None else None

    correlation_id = ask(named_app(), run)
    if as_json:
        print_json({"name": name, "correlation_id": correlation_id})
    elif correlation_id:
        say(correlation_id)
    else:
        say(f"{name!r} has nothing to dispatch now", err=True)


def _turn(action: str, name: str, *, as_json: bool) -> None:
    from paigeant.schedules import schedule as scheduling

    async def turn(app: App) -> ScheduleRecord:
        store = store_of(app)
        found = _meant(await store.schedules(), name, app.name)
        if action == "pause":
            await scheduling.pause(store, found)
        else:
            await scheduling.resume(store, found, app.clock.now())
        return next(one for one in await store.schedules(found.app) if one.name == name)

    changed = ask(for_reading(app_or_urls()), turn)
    if as_json:
        print_json(as_data(changed))
    else:
        say(f"{name}  {as_data(changed)['status']}")


def _delete(name: str, *, as_json: bool) -> None:
    from paigeant.schedules import schedule as scheduling

    async def delete(app: App) -> ScheduleRecord:
        store = store_of(app)
        found = _meant(await store.schedules(), name, app.name)
        await scheduling.delete(store, found)
        return found

    deleted = ask(for_reading(app_or_urls()), delete)
    if as_json:
        print_json(as_data(deleted) | {"status": "deleted"})
    else:
        say(f"{name}  deleted")


def _meant(known: Sequence[ScheduleRecord], name: str, app: str) -> ScheduleRecord:
    """The schedule of this name: that of the App, if several Apps have one.

    Raises:
        ScheduleNotFound, WrongUsage: there is none, or it is not clear which.
    """
    from paigeant.schedules.schedule import not_found

    named = [one for one in known if one.name == name]
    if not named:
        raise not_found(name, {one.name for one in known}, f"there is no schedule {name!r}")
    own = [one for one in named if one.app == app]
    if not own and len(named) > 1:
        apps = ", ".join(one.app for one in named)
        raise WrongUsage(f"several Apps have a schedule {name!r}: {apps}", hint="name the App: -A APP")
    return (own or named)[0]

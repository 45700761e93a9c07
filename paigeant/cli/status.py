from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import click

from paigeant.cli.connect import app_or_urls, ask, missing_file, urls_of
from paigeant.cli.errors import UNREACHABLE, warn
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import print_facts, print_json
from paigeant.cli.queues import depths
from paigeant.errors import PaigeantError, StoreError, TransportError
from paigeant.records.workflow import WorkerRecord, unserved
from paigeant.runtime.urls import masked

if TYPE_CHECKING:
    from paigeant.app import App
    from paigeant.store import Store

_OK, _NONE, _NOT_THERE, _UNREACHABLE = "ok", "none", "not there yet", "unreachable"


@click.command()
@as_json
@connections
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Show broker, store, workflows, workers and queues on one screen.

    The exit code is 69 if the broker or the store is unreachable.
    """
    app = app_or_urls()
    seen = ask(app, _look)
    if as_json:
        print_json(seen)
    else:
        _print(seen)
    if _UNREACHABLE in (seen["broker"]["state"], seen["store"]["state"]):
        context.exit(UNREACHABLE)


async def _look(app: App) -> dict[str, Any]:
    broker, store = (_place(url) for url in urls_of(app))
    seen: dict[str, Any] = {"broker": broker, "store": store, "workflows": {}, "workers": 0, "queues": {}}
    seen["unserved"] = []
    if broker["state"] == _OK:
        try:
            await app.transport.connect()
            seen["queues"] = await depths(app)
        except TransportError as error:
            broker |= _trouble(error)
    if store["state"] == _OK and app.store is not None:
        try:
            seen["workflows"] = await app.store.counts()
            workers = await app.store.workers()
            seen["workers"] = sum(one.alive for one in workers)
            seen["unserved"] = await _unserved(app.store, seen["queues"], workers)
        except StoreError as error:
            store |= _trouble(error)
    return seen


async def _unserved(store: Store, queues: Mapping[str, int], workers: Collection[WorkerRecord]) -> list[str]:
    """Queues with messages, and steps of running workflows, that no live worker serves."""
    from paigeant.workflow.unserved import unserved_running

    return [*unserved(queues, workers), *await unserved_running(store, workers, queues)]


def _place(url: str | None) -> dict[str, str | None]:
    if url is None:
        return {"state": _NONE, "url": None}
    return {"state": _NOT_THERE if missing_file(url) else _OK, "url": masked(url)}


def _trouble(error: PaigeantError) -> dict[str, str | None]:
    return {"state": _UNREACHABLE, "error": str(error).partition(": ")[2] or str(error)}


def _print(seen: dict[str, Any]) -> None:
    print_facts(
        {
            "broker": _on_one_line(seen["broker"]),
            "store": _on_one_line(seen["store"]),
            "workflows": _counted(seen["workflows"]),
            "workers": f"{seen['workers']} alive",
            "queues": _counted(seen["queues"]),
        }
    )
    for text in seen["unserved"]:
        warn(text)
    if seen["unserved"] and not seen["workers"]:
        warn("no worker is running: start one with paigeant worker -A APP")


def _on_one_line(place: dict[str, str | None]) -> str:
    return "  ".join(filter(None, (place["state"], place["url"], place.get("error"))))


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"

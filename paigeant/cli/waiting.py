from __future__ import annotations

from typing import Any

import click

from paigeant.cli.connect import ask_store, full_id
from paigeant.cli.errors import warn
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import iso, print_json, print_table, readable
from paigeant.cli.standing import refused_of
from paigeant.context.waiting import signal_key
from paigeant.decisions.forward import OPERATOR, PAUSE
from paigeant.decisions.lock_names import KEYS as LOCKS
from paigeant.decisions.plan import TIMER
from paigeant.records.workflow import Held
from paigeant.store import Store
from paigeant.wire.approval import KEY as APPROVAL
from paigeant.wire.join import KEY as JOIN
from paigeant.wire.message import child_key
from paigeant.workflow.unserved import unserved_of, unserved_running

_KEYS = {
    "time": ("timer", TIMER),
    "signal": (signal_key(""),),
    "approval": (APPROVAL,),
    "workflow": (child_key(""),),
    "branches": (JOIN,),
    **{key.removesuffix(":"): (key,) for key in LOCKS},
    "operator": (OPERATOR,),
    "resume": (PAUSE,),
}
"""Reasons for waiting, each with the prefixes of its keys."""


@click.command()
@click.argument("id", required=False)
@click.option("--for", "kind", type=click.Choice([*_KEYS]), help="Filter by reason.")
@click.option("-n", "--limit", default=100, show_default=True, type=click.IntRange(1), help="Maximum number of rows.")
@as_json
@connections
def waiting(id: str | None, kind: str | None, limit: int, as_json: bool) -> None:  # noqa: A002 - as in --help
    """List waiting steps, oldest first, of all workflows or of the workflow ID."""
    found, remarks = ask_store(lambda store: _read(store, id, _KEYS[kind] if kind else ("",), limit))
    if as_json:
        print_json([_data(one) for one in found])
    else:
        headers = ("id", "step", "activity", "waits for", "since (UTC)", "until (UTC)")
        print_table(headers, map(_row, found), none="no step waits")
    for text in remarks:
        warn(text)


async def _read(store: Store, beginning: str | None, keys: tuple[str, ...], limit: int) -> tuple[list[Held], list[str]]:
    correlation_id = await full_id(store, beginning) if beginning is not None else None
    found = [one for key in keys for one in await store.held(correlation_id, key, limit)]
    found = sorted(found, key=lambda one: one.since)[:limit]
    if correlation_id is not None:
        return found, [*await unserved_of(store, correlation_id), *await refused_of(store, correlation_id)]
    return found, await unserved_running(store, await store.workers())


def _kind(held: Held) -> str:
    return next((kind for kind, keys in _KEYS.items() if held.key.startswith(keys)), held.key)


def _data(one: Held) -> dict[str, Any]:
    about = {"correlation_id": one.correlation_id, "step_id": one.step_id, "activity": one.activity}
    times = {"since": iso(one.since), "due_at": iso(one.due_at)}
    return about | {"for": _kind(one), "key": one.key, "detail": one.detail} | times


def _row(one: Held) -> tuple[object, ...]:
    until = readable(one.due_at)
    return (one.correlation_id, one.step_id, one.activity, _in_words(one), readable(one.since), until)


def _in_words(held: Held) -> str:
    kind, rest = _kind(held), held.key.partition(":")[2]
    detail = held.detail if isinstance(held.detail, dict) else {}
    match kind:
        case "signal" | "workflow" | "lock" | "concurrency" | "rate":
            return f"{kind} {rest}"
        case "approval":
            return f"approval: {detail.get('asks', '')}"
        case "branches":
            return f"{detail.get('branches', 'its')} branches"
        case "operator":
            error = detail.get("error") or {}
            return f"operator, after {error.get('type')}: {error.get('message')}"
        case _:
            return kind

from __future__ import annotations

from typing import Any

import click

from paigeant.approval import KEY as APPROVAL
from paigeant.cli.connect import ask_store, full_id
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import iso, print_json, print_table, readable
from paigeant.context.waits import signal_key
from paigeant.dispatch import TIMER
from paigeant.forward import OPERATOR, PAUSE
from paigeant.join import KEY as JOIN
from paigeant.limits.names import KEYS as LOCKS
from paigeant.records import Held, child_key
from paigeant.store import Store

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
"""What messages wait for, and how the keys begin of those that do."""


@click.command()
@click.argument("id", required=False)
@click.option("--for", "kind", type=click.Choice([*_KEYS]), help="Only what waits for this.")
@click.option("-n", "--limit", default=100, show_default=True, type=click.IntRange(1), help="How many.")
@as_json
@connections
def waiting(id: str | None, kind: str | None, limit: int, as_json: bool) -> None:  # noqa: A002 - as in --help
    """List what waits, the oldest first: for what, since when, until when. With an ID: in this workflow."""
    found = ask_store(lambda store: _read(store, id, _KEYS[kind] if kind else ("",), limit))
    if as_json:
        print_json([_data(one) for one in found])
    else:
        headers = ("id", "step", "activity", "waits for", "since (UTC)", "until (UTC)")
        print_table(headers, map(_row, found), none="nothing waits")


async def _read(store: Store, beginning: str | None, keys: tuple[str, ...], limit: int) -> list[Held]:
    correlation_id = await full_id(store, beginning) if beginning is not None else None
    found = [one for key in keys for one in await store.held(correlation_id, key, limit)]
    return sorted(found, key=lambda one: one.since)[:limit]


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

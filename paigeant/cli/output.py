"""What commands print on standard output: tables for people, aligned text for pipes, JSON for programs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from paigeant.cli.text import one_line
from paigeant.events import Cancellation, ErrorInfo
from paigeant.records import EventRecord, StepRecord, WorkerRecord, WorkflowRecord

if TYPE_CHECKING:
    from paigeant.usage import Usage

_TIMES = {"at", "created_at", "updated_at", "finished_at", "started_at", "seen_at"}
_COLOURS = {
    "completed": "green",
    **dict.fromkeys(("failed", "compensation_incomplete"), "red"),
    **dict.fromkeys(("retried", "compensating", "compensated", "cancelled", "paused"), "yellow"),
    **dict.fromkeys(("started", "running"), "cyan"),
}


def is_terminal() -> bool:
    """Whether somebody reads standard output as it comes."""
    return sys.stdout.isatty()


# --- values --------------------------------------------------------------------------------------------------------


def iso(seconds: float | None) -> str | None:
    """Epoch seconds as ISO 8601 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def readable(seconds: float | None) -> str:
    """Epoch seconds as people read them; UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S") if seconds is not None else ""


def took(started: float | None, finished: float | None) -> str:
    """A duration."""
    if started is None or finished is None:
        return ""
    return f"{finished - started:.3f} s"


def brief(value: Any, limit: int = 120) -> str:
    """A value as one short line of JSON."""
    return one_line(json.dumps(value, ensure_ascii=False), limit)


# --- JSON ----------------------------------------------------------------------------------------------------------

Record = WorkflowRecord | StepRecord | EventRecord | WorkerRecord


def as_data(record: Record, *, without: Sequence[str] = ()) -> dict[str, Any]:
    """A record as JSON types, its times as ISO 8601."""
    names = [field.name for field in fields(record) if field.name not in without]
    return {name: _written(name, getattr(record, name)) for name in names}


def _written(name: str, value: Any) -> Any:
    match value:
        case ErrorInfo():
            return asdict(value)
        case _ if name == "used":
            return value.to_dict()
        case Cancellation():
            return asdict(value) | {"at": iso(value.at)}
        case tuple() if name == "steps":
            return [as_data(step) for step in value]
        case float() | int() if name in _TIMES:
            return iso(value)
        case dict() if name == "data" and "started_at" in value:
            return value | {"started_at": iso(value["started_at"])}
        case _:
            return value


_UNPRINTABLE = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""What JSON lets pass and terminals obey: control characters beyond ASCII, and those that turn the direction."""


def print_json(value: Any) -> None:
    """One JSON document: indented for people, on one line for programs. Nothing in it controls a terminal."""
    text = json.dumps(value, ensure_ascii=False, indent=2 if is_terminal() else None)
    click.echo(_UNPRINTABLE.sub(lambda found: json.dumps(found[0])[1:-1], text))


# --- tables --------------------------------------------------------------------------------------------------------


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, none: str) -> None:
    """A table; with no rows, ``none`` on standard error. The first column is never shortened."""
    cells = [[one_line("" if cell is None else cell) for cell in row] for row in rows]
    if not cells:
        click.echo(none, err=True)
    elif is_terminal():
        _print_rich(headers, cells)
    else:
        _print_plain(headers, cells)


def _print_plain(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = [[header.upper().replace(" ", "_") for header in headers], *([cell or "-" for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_rich(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, header in enumerate(headers):
        table.add_column(header, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    Console().print(table)


def print_facts(facts: Mapping[str, object]) -> None:
    """Names with a value each, one a line; what has no value is left out."""
    shown = {name: one_line(value) for name, value in facts.items() if value not in (None, "")}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        label = click.style(name.ljust(width), bold=True)
        click.echo(f"{label}  {click.style(value, fg=_COLOURS.get(value))}")


def price(used: Usage) -> str:
    """What it cost in US dollars; marked where it is more than is known."""
    known = f"${used.cost:.4f}"
    if used.unpriced:
        return "?" if used.unpriced == used.requests else f"{known} + ?"
    return known


def spent(used: Usage) -> str:
    """What agents used, in a line."""
    if not (used.requests or used.tool_calls):
        return ""
    counts = f"{used.tokens} tokens, {used.requests} requests, {used.tool_calls} tool calls"
    return f"{counts}, {price(used)}"

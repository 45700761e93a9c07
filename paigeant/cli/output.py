"""Prints to standard output: tables for people, aligned text for pipes, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from paigeant.cli.text import counted, one_line
from paigeant.events import Cancellation, ErrorInfo
from paigeant.records.workflow import EventRecord, StepRecord, WorkerRecord, WorkflowRecord
from paigeant.runtime.characters import escaped_json

if TYPE_CHECKING:
    from paigeant.wire.usage import Usage

WAITS = "waits for an operator"
"""The status on the screen of a workflow, and of a step, that runs again only when an operator retries it."""

_TIMES = {"at", "created_at", "updated_at", "finished_at", "started_at", "seen_at"}
_COLOURS = {
    "completed": "green",
    **dict.fromkeys(("failed", "compensation_incomplete"), "red"),
    **dict.fromkeys(("retried", "compensating", "compensated", "cancelled", "paused", WAITS), "yellow"),
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
    if (moment := _moment(seconds)) is None:
        return _beyond(seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def readable(seconds: float | None) -> str:
    """Epoch seconds as people read them; UTC."""
    if seconds is None:
        return ""
    moment = _moment(seconds)
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment is not None else _beyond(seconds)


def _moment(seconds: float) -> datetime | None:
    """The time of day, or None for one that no calendar has: a row that is odd must not hide the others."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError, TypeError):
        return None


def _beyond(seconds: object) -> str:
    return f"no date: {seconds}"


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


def print_json(value: Any, *, err: bool = False) -> None:
    """Print a JSON document: indented for people, on one line for programs. Nothing in it controls a terminal.

    ``err``: people read it, on standard error.
    """
    click.echo(json_text(value, indent=2 if err or is_terminal() else None), err=err)


def print_json_line(value: Any) -> None:
    """Print a JSON document on one line, as one of several."""
    click.echo(json_text(value))


def json_text(value: Any, indent: int | None = None, *, only_ascii: bool = False) -> str:
    """A JSON document in which no character controls a terminal or is invisible."""
    return escaped_json(json.dumps(value, ensure_ascii=only_ascii or not _takes_everything(), indent=indent))


def _takes_everything() -> bool:
    """Whether standard output takes every character; in other encodings JSON is written in ASCII, which says the same.

    A lone surrogate, which JSON can hold and UTF-8 cannot, is written as its escape by :mod:`paigeant.cli.streams`.
    """
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


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
    """The cost in US dollars; ``-`` if no price is known, and "more" if the price of some requests is not known."""
    if not used.unpriced:
        return f"${used.cost:.4f}"
    return "-" if used.unpriced == used.requests else f"${used.cost:.4f} or more"


def spent(used: Usage) -> str:
    """The usage of agents, on one line."""
    if not (used.requests or used.tool_calls):
        return ""
    counts = [counted(used.tokens, "token"), counted(used.requests, "request"), counted(used.tool_calls, "tool call")]
    return ", ".join([*counts, "price unknown" if used.unpriced == used.requests > 0 else price(used)])


def legend(parts: Iterable[Usage]) -> str | None:
    """A legend for a column of prices, if the price of some requests is unknown."""
    unknown = sum(used.unpriced for used in parts)
    return f"cost: the price of {counted(unknown, 'request')} is unknown" if unknown else None

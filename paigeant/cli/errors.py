"""Errors as a user sees them: what happened, why, what to type, and an exit code. The one table of exit codes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from traceback import format_exception

import click

from paigeant.cli.text import one_line, say
from paigeant.errors import (
    AppNotFound,
    ConfigurationError,
    DeadLetterError,
    DeadLetterNotFound,
    DuplicateActivity,
    InvalidArguments,
    MessageError,
    NotSerializable,
    PaigeantError,
    ScheduleInUse,
    ScheduleNotFound,
    SchemaMismatch,
    StoreError,
    TransportError,
    WorkflowError,
    WorkflowNotFound,
    WorkflowTimeout,
)
from paigeant.runtime.trouble import Trouble, advice, how_to_start, trouble_of

DONE, FAILED, USAGE, NOT_FOUND, UNREACHABLE, INTERNAL, TIMED_OUT, CONFIGURATION = 0, 1, 2, 3, 69, 70, 75, 78
INTERRUPTED = 128 + 2


class WrongUsage(PaigeantError):
    """The command cannot be carried out as it was typed."""


class NotFound(PaigeantError):
    """The command names something that does not exist."""


_CODES: dict[type[BaseException], int] = {
    click.ClickException: USAGE,
    WrongUsage: USAGE,
    AppNotFound: USAGE,
    DuplicateActivity: USAGE,
    InvalidArguments: USAGE,
    NotSerializable: USAGE,
    MessageError: USAGE,
    NotFound: NOT_FOUND,
    DeadLetterError: FAILED,
    DeadLetterNotFound: NOT_FOUND,
    ScheduleNotFound: NOT_FOUND,
    WorkflowNotFound: NOT_FOUND,
    ScheduleInUse: FAILED,
    WorkflowError: FAILED,
    WorkflowTimeout: TIMED_OUT,
    TransportError: UNREACHABLE,
    StoreError: UNREACHABLE,
    SchemaMismatch: CONFIGURATION,
    ConfigurationError: CONFIGURATION,
    click.Abort: INTERRUPTED,
    KeyboardInterrupt: INTERRUPTED,
}


def exit_code(error: BaseException) -> int:
    """The code of the nearest class in the table; anything that is not in it is our own mistake."""
    return next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), INTERNAL)


def explain(error: BaseException, *, traceback: bool = False) -> int:
    """Tell the user on standard error; the exit code."""
    code = exit_code(error)
    if traceback:
        say("".join(format_exception(error)).rstrip("\n"), err=True)
    if code != INTERRUPTED:
        problem = _problem(error)
        if traceback and problem.to_do == _shown_below(error):
            problem = replace(problem, to_do=None)
        click.echo(click.style("Error: ", fg="red", bold=True) + problem.what, err=True)
        for line in (problem.why, problem.to_do):
            if line:
                say(f"  {line}", err=True)
    return code


def _shown_below(error: BaseException) -> str | None:
    """The hint that a traceback shows below the error."""
    return one_line(error.hint) if isinstance(error, PaigeantError) and error.hint else None


@dataclass(frozen=True, slots=True)
class _Problem:
    what: str
    why: str | None = None
    to_do: str | None = None


def _problem(error: BaseException) -> _Problem:
    match error:
        case click.UsageError():
            return _split(error.format_message(), _help_of(error))
        case click.ClickException():
            return _split(error.format_message(), None)
        case PaigeantError():
            return _split(str(error), _hint(error))
        case _:
            return _Problem(
                f"unexpected {type(error).__name__}: {one_line(str(error))}",
                _where(error),
                "this is a bug in paigeant: run the command again with --traceback for details",
            )


def _split(message: str, to_do: str | None) -> _Problem:
    """Messages read ``what: why``; an URL or a time has no blank after its colon."""
    what, _, why = one_line(" ".join(message.split()), 400).partition(": ")
    return _Problem(what, why or None, one_line(to_do) if to_do else None)


_TAKES_AN_APP = ("worker", "activities")


def _help_of(error: click.UsageError) -> str:
    command = error.ctx.command_path if error.ctx else "paigeant"
    extra = re.fullmatch(r"Got unexpected extra argument \((\S+)\)", error.message)
    if extra and error.ctx and error.ctx.info_name in _TAKES_AN_APP:
        return f"name the App with -A: {command} -A {extra[1]}"
    return f"{command} --help"


def _where(error: BaseException) -> str | None:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return f"in {place.tb_frame.f_code.co_filename}, line {place.tb_lineno}" if place else None


# --- what to type --------------------------------------------------------------------------------------------------


def _hint(error: PaigeantError) -> str | None:
    if isinstance(error, TransportError | StoreError) and not isinstance(error, SchemaMismatch):
        of_a_file = next(_database_hints(str(error)), None)
        return of_a_file or _server_hint(error) or error.hint or "is this the right URL? see: paigeant config"
    if isinstance(error, WorkflowNotFound):
        return error.hint or "see: paigeant workflows"
    return error.hint


def _server_hint(error: TransportError | StoreError) -> str | None:
    """What to look at, and for a server that does not answer how to start one or name another."""
    if trouble_of(error) is not Trouble.AWAY:
        return advice(error)
    other = "name another with -b URL or PAIGEANT_BROKER_URL"
    if "store" in str(error).partition("://")[0]:
        other = "name another with -b URL or --store URL (PAIGEANT_BROKER_URL, PAIGEANT_STORE_URL)"
    parts = ["nothing answers there: is it running? see: paigeant config", how_to_start(error), other]
    return "; ".join(filter(None, parts))


def _database_hints(message: str) -> Iterator[str]:
    """Hints for the usual problems with a SQLite file."""
    if "not a database" in message:
        yield "name another file: export PAIGEANT_BROKER_URL=sqlite:///paigeant.db"
    found = re.search(r"sqlite:///(?P<path>[^\s?]+)", message)
    if found is None or "unable to open" not in message:
        return
    path = Path(found["path"].rstrip(":"))
    if not path.parent.is_dir():
        yield f"mkdir -p {path.parent}"
    elif path.is_dir():
        yield f"it is a folder: name a file in it: sqlite:///{path / 'paigeant.db'}"
    else:
        yield f"check its permissions: ls -l {path}"


def warn(text: str) -> None:
    """Print a remark on standard error."""
    say(one_line(text), err=True)

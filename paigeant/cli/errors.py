"""Errors as a user sees them: what happened, why, what to type, and an exit code. The one table of exit codes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from traceback import format_exception

import click

from paigeant.cli.text import one_line
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
    SchemaTooNew,
    StoreError,
    TransportError,
    WorkflowError,
    WorkflowNotFound,
    WorkflowTimeout,
)

DONE, FAILED, USAGE, NOT_FOUND, UNREACHABLE, INTERNAL, TIMED_OUT, CONFIGURATION = 0, 1, 2, 3, 69, 70, 75, 78
INTERRUPTED = 128 + 2


class WrongUsage(PaigeantError):
    """The command cannot be carried out as it was typed."""


class NotFound(PaigeantError):
    """What the command names does not exist."""


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
    SchemaTooNew: CONFIGURATION,
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
        click.echo("".join(format_exception(error)), err=True, nl=False)
    if code != INTERRUPTED:
        problem = _problem(error)
        click.echo(click.style("Error: ", fg="red", bold=True) + problem.what, err=True)
        for line in (problem.why, problem.to_do):
            if line:
                click.echo(f"  {line}", err=True)
    return code


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
                "this should not happen: the same command with --traceback shows all of it",
            )


def _split(message: str, to_do: str | None) -> _Problem:
    """Messages read ``what: why``; an URL or a time has no blank after its colon."""
    what, _, why = one_line(" ".join(message.split()), 400).partition(": ")
    return _Problem(what, why or None, one_line(to_do) if to_do else None)


def _help_of(error: click.UsageError) -> str:
    command = error.ctx.command_path if error.ctx else "paigeant"
    return f"{command} --help"


def _where(error: BaseException) -> str | None:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return f"in {place.tb_frame.f_code.co_filename}, line {place.tb_lineno}" if place else None


# --- what to type --------------------------------------------------------------------------------------------------


def _hint(error: PaigeantError) -> str | None:
    if isinstance(error, TransportError | StoreError) and not isinstance(error, SchemaTooNew):
        return next(_database_hints(str(error)), "is it running, and is this its URL? see: paigeant config")
    if isinstance(error, WorkflowNotFound):
        return error.hint or "see: paigeant workflows"
    return error.hint


def _database_hints(message: str) -> Iterator[str]:
    """What a SQLite file's troubles mostly come from."""
    if "not a database" in message:
        yield "name another file: export PAIGEANT_BROKER_URL=sqlite:///paigeant.db"
    found = re.search(r"sqlite:///(?P<path>[^\s?]+)", message)
    if found is None or "unable to open" not in message:
        return
    path = Path(found["path"].rstrip(":"))
    if not path.parent.is_dir():
        yield f"mkdir -p {path.parent}"
    elif path.is_dir():
        yield f"it is a folder; name a file in it: sqlite:///{path / 'paigeant.db'}"
    else:
        yield f"may you read and write it? ls -l {path}"


def warn(text: str) -> None:
    """A remark for whoever looks at the terminal."""
    click.echo(one_line(text), err=True)

"""The group of commands: names and summaries are known at once, a command's module is imported when it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import click

from paigeant.cli.errors import USAGE, explain
from paigeant.cli.options import common
from paigeant.cli.streams import write_what_is_possible
from paigeant.runtime.nearest import suggestion

READER_GONE = 128 + 13
"""Exit code of a program when the reader of its output goes away: 128 + SIGPIPE."""


class LazyGroup(click.Group):
    """Commands by sections: ``{"Run": {"worker": "Run the steps of an App."}}``. Errors become exit codes here."""

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections
        self.params = [*common(), *self.params]

    # --- commands --------------------------------------------------------------------------------------------

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in self.sections.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands and cmd_name in self.list_commands(ctx):
            command: click.Command = getattr(import_module(f"paigeant.cli.{cmd_name}"), cmd_name)
            command.params += common()
            self.add_command(command, cmd_name)
        return self.commands.get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        _refuse_unknown(args[0], self.list_commands(ctx), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([*commands.items()])

    # --- errors ----------------------------------------------------------------------------------------------

    def main(self, args: Sequence[str] | None = None, *rest: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run a command; in stand-alone mode every error becomes a few lines and an exit code."""
        given = sys.argv[1:] if args is None else list(args)
        if standalone_mode:
            write_what_is_possible()
        run: Callable[..., Any] = partial(super().main, given, *rest, **extra)
        if not standalone_mode:
            return run(standalone_mode=False)
        try:
            code = run(standalone_mode=False)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the edge of the program
            code = explain(error, traceback="--traceback" in given)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            done = super().invoke(ctx)
            sys.stdout.flush()
            return done
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            ctx.exit(READER_GONE)


def help_alone(context: click.Context) -> None:
    """Print the help of a group that was called without a command, and exit."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(USAGE)


class Subcommands(click.Group):
    """The commands under one name: each takes the options that every command takes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands]

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        cmd.params += common()
        super().add_command(cmd, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        _refuse_unknown(args[0], self.list_commands(ctx), ctx)
        return super().resolve_command(ctx, args)


def _refuse_unknown(name: str, known: Sequence[str], ctx: click.Context) -> None:
    if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
        more = suggestion(name, known, ": did you mean")
        raise click.UsageError(f"there is no command {name!r}{more}", ctx)

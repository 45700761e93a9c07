from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from paigeant.cli import letters as shown
from paigeant.cli.errors import WrongUsage
from paigeant.cli.given import json_object
from paigeant.cli.group import Subcommands
from paigeant.cli.letters import ask_about_letters
from paigeant.cli.options import as_json, connections, fresh
from paigeant.cli.output import print_facts, print_json, print_table, readable, took

if TYPE_CHECKING:
    from paigeant.app import App
    from paigeant.records import DeadLetter, WorkflowRecord

_by = click.option("--by", metavar="NAME", help="Who does it; kept in the history.")


@click.group(cls=Subcommands)
def dlq() -> None:
    """Look at dead letters, send them again, change them, throw them away.

    A message is set aside when its step has failed for good, when it keeps killing its worker, when it is refused, or
    when it cannot be read.
    """


# --- looking ---------------------------------------------------------------------------------------------------------


@dlq.command("list")
@shown.filters
@click.option("-n", "--limit", default=100, show_default=True, type=click.IntRange(1), help="How many.")
@as_json
@connections
def list_(limit: int, as_json: bool, **given: Any) -> None:
    """List dead letters, the latest first."""

    async def listed(app: App) -> list[DeadLetter]:
        said = await shown.meant(app, given)
        found = [*await app.dead_letters.list(limit, **said)]
        if not found:
            await shown.remark_on_none(app.dead_letters, said)
        return found

    shown.print_list(ask_about_letters(listed), as_json=as_json)


@dlq.command()
@click.argument("id")
@as_json
@connections
def show(id: str, as_json: bool) -> None:  # noqa: A002 - the argument's name in --help
    """Show a dead letter: why it was set aside, what it carries, and the attempts of its step."""

    async def looked(app: App) -> tuple[dict[str, Any], Callable[[], None]]:
        letters = app.dead_letters
        letter = await letters.get(id)
        message, problem = shown.opened(letters, letter)
        record = await app.store.workflow(letter.correlation_id) if app.store and letter.correlation_id else None

        def printed() -> None:
            print_facts(shown.facts(letter) | (shown.contents(message) if message is not None else {}))
            if message is None:
                print_facts({"unreadable": problem, "bytes": shown.safely(letter.body)})
            _print_traceback(letter)
            _print_history(letter, record)

        return shown.whole(letters, letter) | {"history": _history(letter, record)}, printed

    data, printed = ask_about_letters(looked)
    if as_json:
        print_json(data)
    else:
        printed()


def _history(letter: DeadLetter, record: WorkflowRecord | None) -> list[dict[str, Any]] | None:
    from paigeant.cli.output import as_data

    if record is None:
        return None
    return [as_data(step) for step in record.steps if step.id == letter.step_id]


def _print_traceback(letter: DeadLetter) -> None:
    from paigeant.cli.text import one_line

    if letter.error is not None and letter.error.traceback:
        click.echo()
        for line in letter.error.traceback.rstrip().splitlines():
            click.echo(one_line(line))


def _print_history(letter: DeadLetter, record: WorkflowRecord | None) -> None:
    if record is None:
        return
    click.echo()
    attempts = [step for step in record.steps if step.id == letter.step_id and step.status != "pending"]
    rows = [
        (
            one.attempt,
            one.status,
            readable(one.started_at),
            took(one.started_at, one.finished_at),
            one.worker,
            one.error,
        )
        for one in attempts
    ]
    print_table(("attempt", "status", "started (UTC)", "took", "worker", "error"), rows, none="no attempts")


@dlq.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@shown.filters
@click.option("-o", "--output", metavar="FILE", help="Write there; it must not exist. Default: standard output.")
@connections
def export(ids: tuple[str, ...], output: str | None, **given: Any) -> None:
    """Write dead letters as JSON, one a line, with their messages, and their bytes in base64. They stay."""
    if ids and any(value is not None for value in given.values()):
        raise WrongUsage("say which dead letters by their ids or by filters, not by both")

    async def exported(app: App) -> list[str]:
        found = await shown.chosen(app.dead_letters, ids, await shown.meant(app, given))
        return [json.dumps(shown.whole(app.dead_letters, one)) for one in found]

    lines = ask_about_letters(exported)
    if output is None:
        for line in lines:
            click.echo(line)
    else:
        _write(output, lines)
        click.echo(f"{len(lines)} dead letters written to {output}", err=True)


def _write(path: str, lines: list[str]) -> None:
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise WrongUsage(f"cannot write {path!r}: {error.strerror}", hint="name another file: -o FILE") from error


# --- doing -----------------------------------------------------------------------------------------------------------


@dlq.command()
@shown.many
@_by
@fresh
@as_json
@connections
def redrive(by: str | None, fresh: bool, as_json: bool, **which: Any) -> None:
    """Send dead letters again: those with these IDs, those that the filters mean, or --all.

    Each is the same step of the same workflow, from its first attempt; a workflow that had failed goes on with it.
    An agent goes on where it was, unless its letter was edited. What cannot be read, or whose workflow has gone on
    without it, stays.
    """
    shown.carry_out(
        shown.Wish(
            verb="redrive",
            done="sent again",
            one=lambda letters, id: letters.redrive(id, by=by, fresh=fresh),  # noqa: A006
            several=lambda letters, meant: letters.redrive_all(by=by, fresh=fresh, **meant),
        ),
        as_json=as_json,
        **which,
    )


@dlq.command()
@shown.many
@click.option("--note", default="", metavar="TEXT", help="Why; kept in the history.")
@_by
@as_json
@connections
def discard(note: str, by: str | None, as_json: bool, **which: Any) -> None:
    """Throw dead letters away: those with these IDs, those that the filters mean, or --all.

    If a workflow waits for one, its step has failed with that, and what it did is taken back where that is possible.
    """
    shown.carry_out(
        shown.Wish(
            verb="discard",
            done="discarded",
            one=lambda letters, id: letters.discard(id, by=by, note=note),  # noqa: A006
            several=lambda letters, meant: letters.discard_all(by=by, note=note, **meant),
            is_final=True,
        ),
        as_json=as_json,
        **which,
    )


@dlq.command()
@click.argument("id")
@click.option(
    "--input", "-i", "arguments", metavar="JSON", help="Arguments of the step, others stay; @FILE reads a file."
)
@click.option("--without", multiple=True, metavar="NAME", help="Leave out this argument; repeatable.")
@click.option("--prompt", metavar="TEXT", help="Another prompt, of an agent's step.")
@click.option("--variables", metavar="JSON", help="Variables of the workflow, others stay; @FILE reads a file.")
@click.option("--deadline", metavar="SECONDS", help="Another deadline for the workflow, from now, or none.")
@_by
@as_json
@connections
def edit(
    id: str,  # noqa: A002 - the argument's name in --help
    arguments: str | None,
    without: tuple[str, ...],
    prompt: str | None,
    variables: str | None,
    deadline: str | None,
    by: str | None,
    as_json: bool,
) -> None:
    """Change what a dead letter carries. It stays one until it is redriven.

    With -A APP the arguments are checked against the activity.
    """
    changes: dict[str, Any] = {
        "arguments": json_object(arguments, "--input") if arguments else None,
        "without": without,
        "prompt": prompt,
        "variables": json_object(variables, "--variables") if variables else None,
        "deadline": _deadline(deadline),
    }

    async def edited(app: App) -> DeadLetter:
        return await app.dead_letters.edit(id, by=by, **changes)

    letter = ask_about_letters(edited)
    if as_json:
        print_json(shown.as_data(letter))
    else:
        click.echo(f"{letter.id}  edited; send it again with: paigeant dlq redrive {letter.id}")


def _deadline(text: str | None) -> float | Literal["none"] | None:
    if text is None or text == "none":
        return "none" if text else None
    try:
        return float(text)
    except ValueError:
        raise WrongUsage(
            f"--deadline is no time from now on: {text!r}", hint="seconds, or none: --deadline 3600"
        ) from None

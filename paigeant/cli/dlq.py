from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import click

from paigeant.cli import letters as shown
from paigeant.cli.errors import WrongUsage
from paigeant.cli.files import write_lines
from paigeant.cli.given import json_object
from paigeant.cli.group import Subcommands, help_alone
from paigeant.cli.letters import ask_about_letters
from paigeant.cli.options import as_json, connections, fresh
from paigeant.cli.output import json_text, print_facts, print_json, print_table, readable, took
from paigeant.cli.text import counted, say

if TYPE_CHECKING:
    from paigeant.app import App
    from paigeant.records.workflow import DeadLetter, WorkflowRecord

_by = click.option("--by", metavar="NAME", help="Your name, recorded in the history.")


@click.group(cls=Subcommands, invoke_without_command=True)
@click.pass_context
def dlq(context: click.Context) -> None:
    """List, redrive, edit or discard dead letters.

    A message becomes a dead letter when its step has failed finally, when it kills its worker repeatedly, when a
    worker refuses it, or when it is unreadable.
    """
    help_alone(context)


# --- looking ---------------------------------------------------------------------------------------------------------


@dlq.command("list")
@shown.filters
@click.option("-n", "--limit", default=100, show_default=True, type=click.IntRange(1), help="Maximum number of rows.")
@as_json
@connections
def list_(limit: int, as_json: bool, **given: Any) -> None:
    """List dead letters, newest first."""

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
    """Show a dead letter, its message and its attempts."""

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
@click.option("-o", "--output", metavar="FILE", help="New file to write. Default: standard output.")
@connections
def export(ids: tuple[str, ...], output: str | None, **given: Any) -> None:
    """Export dead letters as JSON lines.

    Each line has the message, and its bytes in base64. The dead letters are not removed.
    """
    if ids and any(value is not None for value in given.values()):
        raise WrongUsage("name the dead letters by their ids or by filters, not by both")

    async def exported(app: App) -> list[str]:
        found = await shown.chosen(app.dead_letters, ids, await shown.meant(app, given))
        return [json_text(shown.whole(app.dead_letters, one), only_ascii=True) for one in found]

    lines = ask_about_letters(exported)
    if output is None:
        for line in lines:
            click.echo(line)
    else:
        write_lines(output, lines)
        say(f"exported {counted(len(lines), 'dead letter')} to {output}", err=True)


# --- doing -----------------------------------------------------------------------------------------------------------


@dlq.command()
@shown.many
@_by
@fresh
@as_json
@connections
def redrive(by: str | None, fresh: bool, as_json: bool, **which: Any) -> None:
    """Redrive dead letters. Select them by ID, by filters, or with --all.

    A redrive publishes the message again. The step starts with its first attempt, and a failed workflow runs again.
    An agent resumes from its journal, unless you edited its dead letter. A dead letter stays if it is unreadable, or
    if its workflow has continued without it.
    """
    shown.carry_out(
        shown.Wish(
            verb="redrive",
            done="redriven",
            one=lambda letters, id: letters.redrive(id, by=by, fresh=fresh),  # noqa: A006
            several=lambda letters, meant: letters.redrive_all(by=by, fresh=fresh, **meant),
        ),
        as_json=as_json,
        **which,
    )


@dlq.command()
@shown.many
@click.option("--note", default="", metavar="TEXT", help="Reason, recorded in the history.")
@click.option("--vouch", is_flag=True, help="Fail the workflows that refused messages claim: the messages are honest.")
@_by
@as_json
@connections
def discard(note: str, vouch: bool, by: str | None, as_json: bool, **which: Any) -> None:
    """Discard dead letters. Select them by ID, by filters, or with --all.

    If a workflow waits for the dead letter, its step fails, and paigeant compensates the completed steps that have a
    compensation. The workflow that a refused message claims does not change, unless you vouch for the message.
    """
    shown.carry_out(
        shown.Wish(
            verb="discard",
            done="discarded",
            one=lambda letters, id: letters.discard(id, by=by, note=note, vouch=vouch),  # noqa: A006
            several=lambda letters, meant: letters.discard_all(by=by, note=note, vouch=vouch, **meant),
            is_final=True,
        ),
        as_json=as_json,
        **which,
    )


@dlq.command()
@click.argument("id")
@click.option("--input", "-i", "arguments", metavar="JSON", help="Arguments to change: a JSON object, or @FILE.")
@click.option("--without", multiple=True, metavar="NAME", help="Remove this argument (repeatable).")
@click.option("--prompt", metavar="TEXT", help="New prompt of an agent step.")
@click.option("--variables", metavar="JSON", help="Variables to change: a JSON object, or @FILE.")
@click.option("--deadline", metavar="SECONDS", help="New deadline of the workflow, from now, or none.")
@click.option("--token-file", metavar="FILE", help="File with a new token of the user; - for standard input.")
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
    token_file: str | None,
    by: str | None,
    as_json: bool,
) -> None:
    """Edit the message of a dead letter. Redrive it afterwards.

    With -A APP, the command checks the arguments against the activity.
    """
    changes: dict[str, Any] = {
        "arguments": json_object(arguments, "--input") if arguments else None,
        "without": without,
        "prompt": prompt,
        "variables": json_object(variables, "--variables") if variables else None,
        "deadline": _deadline(deadline),
        "obo_token": _token(token_file),
    }

    async def edited(app: App) -> DeadLetter:
        return await app.dead_letters.edit(id, by=by, **changes)

    letter = ask_about_letters(edited)
    if as_json:
        print_json(shown.as_data(letter))
    else:
        say(f"{letter.id}  edited; next: paigeant dlq redrive {letter.id}")


def _token(path: str | None) -> str | None:
    """The token in the file. It is no argument, because other users of the machine can read arguments."""
    if path is None:
        return None
    try:
        with click.open_file(path, encoding="utf-8") as file:
            return str(file.read()).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsage(f"--token-file: cannot read {path!r}", hint="name a file with the token, or -") from error


def _deadline(text: str | None) -> float | Literal["none"] | None:
    if text is None or text == "none":
        return "none" if text else None
    try:
        return float(text)
    except ValueError:
        raise WrongUsage(
            f"--deadline is not a duration: {text!r}", hint="seconds from now, or none: --deadline 3600"
        ) from None

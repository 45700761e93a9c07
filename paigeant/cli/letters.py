"""Code that the dead letter commands share: selecting dead letters, showing them and handling many of them."""

from __future__ import annotations

import base64
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from paigeant.cli.connect import app_or_urls, ask, for_reading, for_sending, full_id, settings_in_force, settled
from paigeant.cli.errors import FAILED, WrongUsage, warn
from paigeant.cli.options import age
from paigeant.cli.output import brief, iso, print_json, print_table, readable
from paigeant.errors import DeadLetterError
from paigeant.runtime.nearest import suggestion
from paigeant.security.masking import MASK, masked

if TYPE_CHECKING:
    from paigeant.app import App
    from paigeant.dead_letters import DeadLetters, Handled
    from paigeant.records.workflow import DeadLetter
    from paigeant.wire.message import PaigeantMessage

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

KINDS = ("exhausted", "poison", "refused", "unreadable", "untrusted")

_MOST_SHOWN = 2000
"""Bytes of an unreadable letter that are shown; `export` has all of them."""
_MOST_KNOWN = 1000


# --- which ---------------------------------------------------------------------------------------------------------


def filters(command: F) -> F:
    """Add the options that filter dead letters."""
    options = [
        click.option("--kind", type=click.Choice(KINDS), help="Filter by kind."),
        click.option("--queue", metavar="QUEUE", help="Filter by full queue name."),
        click.option("--activity", metavar="NAME", help="Filter by activity."),
        click.option("--reason", metavar="TEXT", help="Filter by a part of the reason."),
        click.option("--error", metavar="TYPE", help="Filter by error type, such as ConnectionError."),
        click.option("--code", metavar="CODE", help="Filter by the code of a refusal, such as token or grant."),
        click.option("--workflow", metavar="ID", help="Filter by workflow id, or by its first characters."),
        click.option(
            "--older-than",
            metavar="AGE",
            callback=age,
            help="Only dead letters older than this: 90 (seconds), 15m, 2h, 7d.",
        ),
        click.option(
            "--newer-than",
            metavar="AGE",
            callback=age,
            help="Only dead letters newer than this: 90 (seconds), 15m, 2h, 7d.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


async def meant(app: App, given: Mapping[str, Any]) -> dict[str, Any]:
    """The filters that were given, the workflow's id in full."""
    said = {name: value for name, value in given.items() if value is not None}
    if "workflow" in said and app.store is not None:
        said["workflow"] = await full_id(app.store, said["workflow"])
    return said


def ask_about_letters(question: Callable[[App], Awaitable[T]], *, sends: bool = False) -> T:
    """Ask the App that was named. Without a store letters are in a queue of their App, so it has to be.

    ``sends``: messages go to the broker, which must be that of their workflows.
    """
    app = (for_sending if sends else for_reading)(app_or_urls())
    settings = settings_in_force()
    if app.store is None and not (settings.app or settings.queue_prefix):
        raise WrongUsage(
            "which App? Without a store, dead letters are in a queue of their App",
            hint="add: -A APP, or --store URL",
        )
    return ask(app, settled(question) if sends else question)


async def remark_on_none(letters: DeadLetters, said: Mapping[str, Any]) -> None:
    """If a filter matched nothing, suggest a similar value."""
    if not said:
        return
    known = await letters.list(_MOST_KNOWN)
    values = {
        "queue": {one.queue for one in known},
        "activity": {one.activity for one in known},
        "error": {one.error.type for one in known if one.error},
    }
    for name, there in values.items():
        if name in said and said[name] not in there:
            more = suggestion(said[name], there)
            warn(f"no dead letter has the {name} {said[name]!r}{more}")


# --- how they look ---------------------------------------------------------------------------------------------------


def as_data(letter: DeadLetter) -> dict[str, Any]:
    """A letter as JSON types, without what it carries."""
    return {
        "id": letter.id,
        "kind": letter.kind.value,
        "correlation_id": letter.correlation_id or None,
        "claimed": letter.claimed or None,
        "code": letter.code or None,
        "message_id": letter.message_id,
        "queue": letter.queue,
        "activity": letter.activity or None,
        "step_id": letter.step_id or None,
        "heading": letter.heading,
        "reason": letter.reason,
        "error": asdict(letter.error) if letter.error else None,
        "worker": letter.worker,
        "deliveries": letter.deliveries,
        "at": iso(letter.at),
    }


def whole(letters: DeadLetters, letter: DeadLetter) -> dict[str, Any]:
    """A letter with what it carries: its message, and its bytes in base64; but never the token of a user."""
    message, problem = opened(letters, letter)
    return as_data(letter) | {
        "message": _shown(message) if message is not None else None,
        "unreadable": problem,
        "body": base64.b64encode(masked(letter.body)).decode(),
    }


def _shown(message: PaigeantMessage) -> dict[str, Any]:
    return message.to_dict() | ({"obo_token": MASK} if message.obo_token is not None else {})


def opened(letters: DeadLetters, letter: DeadLetter) -> tuple[PaigeantMessage | None, str | None]:
    """The message of a dead letter, or the reason why it is unreadable."""
    try:
        return letters.message(letter), None
    except DeadLetterError as error:
        return None, str(error).partition(": ")[2]


def _row(letter: DeadLetter) -> tuple[object, ...]:
    activity = f"{letter.activity} (back)" if letter.heading == "back" else letter.activity
    said = letter.error or letter.reason
    workflow = f"{letter.claimed} (claimed)" if letter.claimed else letter.correlation_id
    return (letter.id, letter.kind.value, workflow, activity, letter.queue, said, readable(letter.at))


_HEADERS = ("id", "kind", "workflow", "activity", "queue", "reason", "since (UTC)")


def print_list(found: Sequence[DeadLetter], *, as_json: bool) -> None:
    """A table of them."""
    if as_json:
        print_json([as_data(one) for one in found])
    else:
        print_table(_HEADERS, map(_row, found), none="no dead letters")


def facts(letter: DeadLetter) -> dict[str, object]:
    """A letter for people."""
    return {
        "dead letter": letter.id,
        "kind": letter.kind.value,
        "workflow": letter.correlation_id or None,
        "claimed workflow": letter.claimed or None,
        "code": letter.code or None,
        "step": f"{letter.step_id} {letter.activity}" if letter.step_id else None,
        "heading": "back: compensation of the step" if letter.heading == "back" else None,
        "queue": letter.queue,
        "since": f"{readable(letter.at)} UTC",
        "worker": letter.worker,
        "deliveries": letter.deliveries,
        "reason": letter.reason,
        "error": letter.error,
    }


def contents(message: PaigeantMessage) -> dict[str, object]:
    """The contents of a message, for people."""
    step, slip = message.step, message.routing_slip
    return {
        "message": f"{message.id}, attempt {message.attempt}, epoch {message.epoch}",
        "arguments": brief(step.arguments, 1000) if step.arguments else None,
        "prompt": brief(step.prompt, 1000) if step.prompt is not None else None,
        "variables": brief(slip.variables, 1000) if slip.variables else None,
        "completed": ", ".join(f"{one.id} {one.name}" for one in slip.log),
        "ahead": ", ".join(f"{one.id} {one.name}" for one in slip.itinerary[1:]),
    }


def safely(body: bytes) -> str:
    """Bytes as ASCII: nothing in them reaches a terminal as it is."""
    body = masked(body)
    more = f" and {len(body) - _MOST_SHOWN:,} more bytes" if len(body) > _MOST_SHOWN else ""
    return repr(body[:_MOST_SHOWN])[2:-1] + more


# --- many ------------------------------------------------------------------------------------------------------------


def many(command: F) -> F:
    """The arguments and options of a command that does something to many letters."""
    parts = [
        click.argument("ids", nargs=-1, metavar="[ID]..."),
        filters,
        click.option("--all", "every", is_flag=True, help="Select all dead letters."),
        click.option("--dry-run", is_flag=True, help="List the selected dead letters and change nothing."),
        click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation."),
    ]
    for part in reversed(parts):
        command = part(command)
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """An operation on dead letters, one or several. An ``is_final`` operation always asks for confirmation."""

    verb: str
    done: str
    one: Callable[[DeadLetters, str], Awaitable[Any]]
    several: Callable[[DeadLetters, dict[str, Any]], Awaitable[Handled]]
    is_final: bool = False


def carry_out(
    wish: Wish, *, ids: Sequence[str], every: bool, dry_run: bool, yes: bool, as_json: bool, **given: Any
) -> None:
    """Run the operation on the selected dead letters and print the result; or list them."""
    _refuse_unsaid(ids, given, every=every)

    async def listed(app: App) -> list[DeadLetter]:
        return await chosen(app.dead_letters, ids, await meant(app, given))

    async def done(app: App) -> Handled:
        letters, said = app.dead_letters, await meant(app, given)
        if wish.is_final or not ids:
            _confirm(wish.verb, len(ids) or await letters.count(**said), yes=yes)
        if ids:
            return await _one_by_one(ids, lambda id: wish.one(letters, id))  # noqa: A006
        return await wish.several(letters, said)

    if dry_run:
        print_list(ask_about_letters(listed), as_json=as_json)
    else:
        _print_handled(ask_about_letters(done, sends=wish.verb == "redrive"), wish.done, as_json=as_json)


async def chosen(letters: DeadLetters, ids: Sequence[str], said: dict[str, Any]) -> list[DeadLetter]:
    """All selected dead letters."""
    if ids:
        return [await letters.get(one) for one in ids]
    return [*await letters.list(max(await letters.count(**said), 1), **said)]


def _refuse_unsaid(ids: Sequence[str], given: Mapping[str, Any], *, every: bool) -> None:
    """Raise WrongUsage unless the caller selected dead letters in exactly one way."""
    ways = [bool(ids), any(value is not None for value in given.values()), every]
    if sum(ways) != 1:
        raise WrongUsage(
            "which dead letters? Give ids, or filters, or --all, and only one of these",
            hint="for example: --activity pay --error ConnectionError; see: paigeant dlq list",
        )


def _confirm(verb: str, count: int, *, yes: bool) -> None:
    """Ask whether so many are to be touched."""
    if yes:
        return
    letters = "1 dead letter" if count == 1 else f"{count} dead letters"
    if not sys.stdin.isatty():
        raise WrongUsage(f"this would {verb} {letters}: confirmation needs a terminal", hint="add: --yes, or --dry-run")
    click.confirm(f"{verb.capitalize()} {letters}?", abort=True, err=True)


async def _one_by_one(ids: Sequence[str], handle: Callable[[str], Awaitable[Any]]) -> Handled:
    """Handle each of these. A single dead letter raises its error; several collect their errors."""
    from paigeant.dead_letters import Handled

    done, refused = list[str](), dict[int | str, str]()
    for one in ids:
        try:
            await handle(one)
        except DeadLetterError as error:
            if len(ids) == 1:
                raise
            refused[one] = str(error)
        else:
            done.append(one)
    return Handled(done, refused)


def _print_handled(handled: Handled, what: str, *, as_json: bool) -> None:
    """Print the result. Exits with 1 if some dead letters were refused."""
    if as_json:
        refused = [{"id": one, "reason": reason} for one, reason in handled.refused.items()]
        print_json({"done": [*handled.done], "refused": refused})
    else:
        click.echo(f"{len(handled.done)} {what}")
        for reason in handled.refused.values():
            warn(reason)
    if handled.refused:
        click.get_current_context().exit(FAILED)

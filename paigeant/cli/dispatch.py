from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

from paigeant.cli.connect import ask, named_app, store_of
from paigeant.cli.errors import WrongUsage, warn
from paigeant.cli.events import print_event
from paigeant.cli.given import json_object
from paigeant.cli.options import as_json
from paigeant.errors import ConfigurationError, InvalidArguments, WorkflowFailed

if TYPE_CHECKING:
    from paigeant.app import App
    from paigeant.slip import ActivitySpec
    from paigeant.workflow import Workflow

_REMIND_AFTER = 3.0
"""Seconds without a worker before --follow says that none is running."""


@click.command()
@click.argument("steps", nargs=-1, required=True, metavar="STEP...")
@click.option(
    "--input",
    "-i",
    "inputs",
    multiple=True,
    metavar="[STEP:]JSON",
    help="Arguments of the first step, or of the STEP that is named or numbered, as a JSON object; @FILE reads a file.",
)
@click.option("--variables", metavar="JSON", help="The workflow's variables, as a JSON object; @FILE reads a file.")
@click.option("--name", help="The workflow's name; default: the App's.")
@click.option("--id", help="The workflow's id; default: a new one.")
@click.option("--idempotency-key", metavar="KEY", help="The same key with the same steps is one workflow, sent once.")
@click.option("--delay", type=float, metavar="SECONDS", help="Begin so much later.")
@click.option("--eta", metavar="TIME", help="Begin at this time: ISO 8601 with its time zone.")
@click.option("--expires", type=float, metavar="SECONDS", help="How long the first step may wait when it is due.")
@click.option("--deadline", type=float, metavar="SECONDS", help="How long from now the workflow may take.")
@click.option("-f", "--follow", is_flag=True, help="Print what happens, then the result.")
@as_json
def dispatch(
    steps: tuple[str, ...],
    inputs: tuple[str, ...],
    variables: str | None,
    name: str | None,
    id: str | None,  # noqa: A002 - the promised option
    idempotency_key: str | None,
    eta: str | None,
    follow: bool,
    as_json: bool,
    **limits: float | None,
) -> None:
    """Send a workflow on its way. STEPs are names of activities, in order.

    \b
    paigeant dispatch validate create_account --input '{"email": "ada@example.com"}'
    paigeant dispatch validate writer -i '{"email": "ada@example.com"}' -i 'writer:{"prompt": "Welcome them."}'

    Prints the workflow's id. With --follow it prints events and, on the last line, the result; it exits with 1 if the
    workflow failed.
    """  # noqa: D301 - click takes the backspace for: leave these lines as they are
    app = named_app()
    _refuse_volatile(app)
    arguments = _arguments(steps, inputs)
    itinerary = [_step(app, step, arguments.get(number, {})) for number, step in enumerate(steps)]
    given = json_object(variables, "--variables") if variables else {}
    options = {**limits, "eta": _time(eta) if eta else None, "name": name, "id": id, "idempotency_key": idempotency_key}

    async def send(app: App) -> None:
        if follow:
            store_of(app)
        await app.connect()
        workflow = await _dispatched(app, itinerary, variables=given, **options)
        if follow:
            await _follow(app, workflow, as_json)
        else:
            click.echo(json.dumps({"correlation_id": str(workflow)}) if as_json else str(workflow))

    ask(app, send)


async def _dispatched(app: App, itinerary: Sequence[ActivitySpec], **options: Any) -> Workflow:
    try:
        return await app.dispatch(*itinerary, **options)
    except InvalidArguments as error:
        if missing := re.search(r"needs '(\w+)'", str(error)):
            error.hint = f"""give it: --input '{{"{missing[1]}": …}}'"""
        raise


def _refuse_volatile(app: App) -> None:
    from paigeant.transport import Durability

    if app.transport.features.durability is Durability.VOLATILE:
        raise ConfigurationError(
            f"nothing can be dispatched from here: the broker {app.settings.broker_url} lives in one process only",
            hint="name another one: export PAIGEANT_BROKER_URL=sqlite:///paigeant.db",
        )


# --- what was typed --------------------------------------------------------------------------------------------------


def _arguments(steps: Sequence[str], inputs: Sequence[str]) -> dict[int, dict[str, Any]]:
    """The arguments by the step's place."""
    found: dict[int, dict[str, Any]] = {}
    for text in inputs:
        place, written = _addressed(steps, text)
        found[place] = found.get(place, {}) | json_object(written, "--input")
    return found


def _addressed(steps: Sequence[str], text: str) -> tuple[int, str]:
    """Which step an input is for. No JSON object and no @FILE begins with a word and a colon."""
    named = re.match(r"(?P<step>[^\s{\[\"@:][^\s{\[\":]*):(?P<json>.*)", text, re.DOTALL)
    if named is None:
        return 0, text
    step = named["step"]
    if step.isdecimal() and 1 <= int(step) <= len(steps):
        return int(step) - 1, named["json"]
    if step not in steps:
        raise WrongUsage(f"--input is for {step!r}: no such step is dispatched", hint=f"steps: {', '.join(steps)}")
    if steps.count(step) > 1:
        raise WrongUsage(
            f"--input is for {step!r}: there are several such steps", hint="say the step's number: '2:{…}'"
        )
    return steps.index(step), named["json"]


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        hint = "for example: --eta 2030-01-31T09:00:00+01:00"
        raise WrongUsage(f"--eta is no time: {text!r}", hint=hint) from error


def _step(app: App, name: str, arguments: dict[str, Any]) -> ActivitySpec:
    """A step with its arguments, checked if the activity is one of this App's."""
    from paigeant.slip import ActivitySpec

    known = app.activities.get(name)
    if known is not None:
        if arguments or not hasattr(known, "agent"):
            return known.step(**arguments)
        return ActivitySpec(name=name)
    near = get_close_matches(name, app.activities, n=1)
    more = f"; did you mean {near[0]!r}?" if near else ""
    warn(f"App {app.name!r} has no activity {name!r}: the step is left to another service{more}")
    return ActivitySpec(name=name, arguments=arguments)


# --- --follow --------------------------------------------------------------------------------------------------------


async def _follow(app: App, workflow: Workflow, as_json: bool) -> None:
    reminder = asyncio.create_task(_remind(app))
    try:
        async for event in workflow.events():
            print_event(event, as_json=as_json)
    finally:
        reminder.cancel()
        with suppress(asyncio.CancelledError):
            await reminder
    await _print_end(workflow, as_json)


async def _print_end(workflow: Workflow, as_json: bool) -> None:
    try:
        output = await workflow.result()
    except WorkflowFailed:
        if as_json:
            record = await workflow.record()
            error = {"type": record.error.type, "message": record.error.message} if record.error else None
            click.echo(json.dumps(_end(workflow, "failed") | {"error": error}, ensure_ascii=False))
        raise
    end = _end(workflow, "completed") | {"output": output} if as_json else output
    click.echo(json.dumps(end, ensure_ascii=False))


def _end(workflow: Workflow, status: str) -> dict[str, Any]:
    return {"type": "result", "correlation_id": str(workflow), "status": status}


async def _remind(app: App) -> None:
    """Say once that nobody is there to do the work."""
    await asyncio.sleep(_REMIND_AFTER)
    if app.store is not None and not any(worker.alive for worker in await app.store.workers()):
        warn(f"no worker is running: start one with paigeant worker -A …, it serves App {app.name!r}")

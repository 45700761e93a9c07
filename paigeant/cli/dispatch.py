from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from paigeant.cli.connect import ask, named_app, store_of
from paigeant.cli.errors import WrongUsage, warn
from paigeant.cli.events import print_event
from paigeant.cli.given import json_object
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import print_json_line
from paigeant.cli.text import say
from paigeant.errors import ConfigurationError, InvalidArguments, WorkflowFailed
from paigeant.runtime.nearest import suggestion

if TYPE_CHECKING:
    from paigeant.app import App
    from paigeant.wire.slip import ActivitySpec
    from paigeant.workflow import Workflow


@click.command()
@click.argument("steps", nargs=-1, required=True, metavar="STEP...")
@click.option(
    "--input",
    "-i",
    "inputs",
    multiple=True,
    metavar="[STEP:]JSON",
    help="Arguments of a step: a JSON object, or @FILE. STEP is a name or a number; default: the first step.",
)
@click.option("--variables", metavar="JSON", help="Workflow variables: a JSON object, or @FILE.")
@click.option("--name", help="Workflow name. Default: the name of the App.")
@click.option("--id", help="Workflow id. Default: a new id.")
@click.option("--idempotency-key", metavar="KEY", help="Dispatch only once for this key.")
@click.option("--delay", type=float, metavar="SECONDS", help="Start the first step after this delay.")
@click.option("--eta", metavar="TIME", help="Start the first step at this time (ISO 8601 with time zone).")
@click.option(
    "--expires", type=float, metavar="SECONDS", help="Maximum time that the first step may wait in its queue."
)
@click.option("--deadline", type=float, metavar="SECONDS", help="Maximum duration of the workflow, from now.")
@click.option("-f", "--follow", is_flag=True, help="Print events as they happen, then the result.")
@as_json
@connections
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
    """Dispatch a workflow. STEPs are names of activities, in order.

    \b
    paigeant dispatch validate create_account --input '{"email": "ada@example.com"}'
    paigeant dispatch validate writer -i '{"email": "ada@example.com"}' -i 'writer:{"prompt": "Welcome them."}'

    The command prints the workflow's id. With --follow, it prints events, and the result on the last line. The exit
    code is 1 if the workflow failed.
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
        elif as_json:
            print_json_line({"correlation_id": str(workflow)})
        else:
            say(str(workflow))

    ask(app, send)


async def _dispatched(app: App, itinerary: Sequence[ActivitySpec], **options: Any) -> Workflow:
    app.strangers = app.strangers.silent()  # _step() has warned
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
            f"cannot dispatch from the command line: the broker {app.settings.broker_url} exists in one process only",
            hint="use another broker: -b sqlite:///paigeant.db, or export PAIGEANT_BROKER_URL=sqlite:///paigeant.db",
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
        raise WrongUsage(
            f"--input names the step {step!r}: the workflow has no such step", hint=f"steps: {', '.join(steps)}"
        )
    if steps.count(step) > 1:
        raise WrongUsage(
            f"--input names the step {step!r}: the workflow has several such steps",
            hint="use the step's number: '2:{…}'",
        )
    return steps.index(step), named["json"]


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        hint = "for example: --eta 2030-01-31T09:00:00+01:00"
        raise WrongUsage(f"--eta is not a time: {text!r}", hint=hint) from error


def _step(app: App, name: str, arguments: dict[str, Any]) -> ActivitySpec:
    """A step with its arguments, checked if the activity is one of this App's."""
    from paigeant.wire.slip import ActivitySpec

    known = app.activities.get(name)
    if known is not None:
        if arguments or not hasattr(known, "agent"):
            return known.step(**arguments)
        return ActivitySpec(name=name)
    more = suggestion(name, app.activities)
    warn(f"App {app.name!r} has no activity {name!r}: another service must serve this step{more}")
    return ActivitySpec(name=name, arguments=arguments)


# --- --follow --------------------------------------------------------------------------------------------------------


async def _follow(app: App, workflow: Workflow, as_json: bool) -> None:
    from paigeant.workflow.unserved import reminding

    async with reminding(store_of(app), workflow.correlation_id, _remind):
        async for event in workflow.events():
            print_event(event, as_json=as_json)
    await _print_end(workflow, as_json)


def _remind(text: str) -> None:
    """Say that nobody is there to do the work."""
    warn(f"{text}: start a worker with paigeant worker -A APP")


async def _print_end(workflow: Workflow, as_json: bool) -> None:
    try:
        output = await workflow.result()
    except WorkflowFailed:
        if as_json:
            record = await workflow.record()
            error = {"type": record.error.type, "message": record.error.message} if record.error else None
            print_json_line(_end(workflow, "failed") | {"error": error})
        raise
    end = _end(workflow, "completed") | {"output": output} if as_json else output
    print_json_line(end)


def _end(workflow: Workflow, status: str) -> dict[str, Any]:
    return {"type": "result", "correlation_id": str(workflow), "status": status}

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from paigeant.cli.connect import settings_in_force
from paigeant.cli.errors import FAILED, WrongUsage, warn
from paigeant.cli.group import Subcommands, help_alone
from paigeant.cli.keys import DEFAULT, policy_path
from paigeant.cli.options import as_json
from paigeant.cli.output import brief, print_facts, print_json, print_table, readable
from paigeant.cli.text import say
from paigeant.errors import KeysUnavailable, MessageError, Untrusted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paigeant.security.slips import Shown


@click.group(cls=Subcommands, invoke_without_command=True)
@click.pass_context
def slip(context: click.Context) -> None:
    """Show, verify and compare messages.

    FILE has the bytes of one message, or one line of `paigeant dlq export`; - is standard input.
    """
    help_alone(context)


def _body(file: str) -> bytes:
    from paigeant.security.slips import body_of

    try:
        with click.open_file(file, "rb") as opened:
            return body_of(opened.read())
    except OSError as error:
        raise WrongUsage(f"cannot read {file!r}: {error.strerror}", hint="name a file with a message, or -") from error


def _read(file: str) -> Shown:
    from paigeant.security.slips import shown

    return shown(_body(file), settings_in_force().message_limit)


@slip.command()
@click.argument("file")
@as_json
def show(file: str, as_json: bool) -> None:
    """Show a message: its plan, its links and its steps.

    The command needs no keys and checks no signature. Anybody can write what it shows; see `paigeant slip verify`.
    """
    found = _read(file)
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found)


def _print(found: Shown) -> None:
    message = found.message
    step, routing = message.step, message.routing_slip
    plan = found.plan or {}
    print_facts(
        {
            "workflow": f"{message.correlation_id} {message.name}".rstrip(),
            "message": f"{message.id}, attempt {message.attempt}, epoch {message.epoch}",
            "step": f"{step.id} {step.name}" + (" (back)" if routing.is_back else ""),
            "arguments": brief(step.arguments, 1000) if step.arguments else None,
            "variables": brief(routing.variables, 1000) if routing.variables else None,
            "completed": ", ".join(f"{one.id} {one.name}" for one in routing.log) or None,
            "ahead": ", ".join(f"{one.id} {one.name}" for one in routing.itinerary[1:]) or None,
            "received": ", ".join(found.received) or None,
            "plan": f"key {plan['kid']}, audience {plan.get('aud')}" if plan else "not signed",
            "user": plan.get("sub"),
            "expires": f"{readable(plan.get('exp'))} UTC" if plan else None,
            "ancestors": len(found.above) or None,
        }
    )
    if found.plan is not None:
        click.echo()
        print_table(("n", "key", "step", "did", "order", "ended"), map(_row, found.links), none="no links")
        say("\nThe signatures are not checked. Next: paigeant slip verify FILE")


def _row(link: Mapping[str, Any]) -> tuple[object, ...]:
    step = f"{link.get('step')} {link.get('act')}"
    return (link.get("n"), link["kid"], step, link.get("did"), link.get("order") or "", link.get("end") or "")


@slip.command()
@click.argument("file")
@click.option("--trust", "trust_", metavar="FILE", help=f"Trust policy. Default: the setting trust, else {DEFAULT}.")
@as_json
@click.pass_context
def verify(context: click.Context, file: str, trust_: str | None, as_json: bool) -> None:
    """Check a message as a worker does, and print the verdict.

    The exit code is 1 if a worker would refuse the message. The command does not know whether the step already ran.
    """
    verdict = _verdict(file, trust_)
    if as_json:
        print_json(verdict)
    elif verdict["trusted"]:
        say(f"trusted: step {verdict['step']} of workflow {verdict['workflow']}")
        for doubt in verdict["doubts"]:
            warn(f"Not believed: {doubt}")
    else:
        say(f"not trusted ({verdict['code']}): {verdict['reason']}")
    if not verdict["trusted"]:
        context.exit(FAILED)


def _verdict(file: str, trust: str | None) -> dict[str, Any]:
    from paigeant.security.slips import judged
    from paigeant.security.verifying import verifier_of

    settings = settings_in_force()
    notary, body = verifier_of(policy_path(trust, settings), settings), _body(file)
    try:
        message, doubts = judged(body, notary, time.time())
    except (MessageError, KeysUnavailable) as error:
        code = error.code if isinstance(error, Untrusted) else _code(error)
        return {"trusted": False, "code": code, "reason": str(error)}
    step = f"{message.step.id} {message.step.name}"
    return {"trusted": True, "workflow": message.correlation_id, "step": step, "doubts": [*doubts]}


def _code(error: Exception) -> str:
    return "unknown-key" if isinstance(error, KeysUnavailable) else "unreadable"


@slip.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@as_json
def diff(before: str, after: str, as_json: bool) -> None:
    """Show how message B differs from message A: signatures, steps, variables and the rest.

    The exit code is 1 if they differ.
    """
    from paigeant.decisions.difference import differences

    found = [*differences(_read(before).to_dict(), _read(after).to_dict())]
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        rows = [(one.path, _value(one.before), _value(one.after)) for one in found]
        print_table(("place", "a", "b"), rows, none="the messages are equal")
    if found:
        click.get_current_context().exit(FAILED)


def _value(value: Any) -> str:
    return "" if value is None else brief(value)

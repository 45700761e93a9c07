from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from paigeant.cli.connect import named_app, settings_in_force
from paigeant.cli.errors import CONFIGURATION, FAILED, WrongUsage, warn
from paigeant.cli.group import Subcommands, help_alone
from paigeant.cli.keys import DEFAULT, policy_path
from paigeant.cli.options import as_json
from paigeant.cli.output import print_json, print_table
from paigeant.cli.text import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paigeant.config import Settings
    from paigeant.security.inspecting import Trust

_trust = click.option(
    "--trust", "trust_", metavar="FILE", help=f"Trust policy. Default: the setting trust, else {DEFAULT}."
)


@click.group(cls=Subcommands, invoke_without_command=True)
@click.pass_context
def trust(context: click.Context) -> None:
    """Check the trust policy, and explain its answers.

    The policy says what each key may do. Workers refuse everything else.
    """
    help_alone(context)


@trust.command()
@_trust
@as_json
@click.pass_context
def check(context: click.Context, trust_: str | None, as_json: bool) -> None:
    """Check that policy and keys are readable, and that they fit each other.

    With -A, also check the names of the activities. The exit code is 78 if something is wrong.
    """
    settings = settings_in_force()
    found = _read(trust_, settings)
    remarks = [*found.remarks(_activities(settings))]
    digest = found.policy.digest
    if as_json:
        said = [{"text": one.text, "fault": one.is_fault} for one in remarks]
        about: dict[str, Any] = {"policy": str(found.path), "audience": found.policy.audience, "digest": digest}
        print_json(about | {"rules": len(found.policy.rules), "keys": len(found.keys), "remarks": said})
    else:
        say(f"{found.path}  audience {found.policy.audience}  digest {digest[:12]}")
        say(f"{len(found.policy.rules)} rules, {len(found.keys)} keys")
        for one in remarks:
            warn(f"{'Wrong' if one.is_fault else 'Look at this'}: {one.text}")
    if any(one.is_fault for one in remarks):
        context.exit(CONFIGURATION)


def _read(given: str | None, settings: Settings) -> Trust:
    from paigeant.security.inspecting import Trust

    return Trust.read(policy_path(given, settings))


def _activities(settings: Settings) -> set[str] | None:
    return set(named_app(settings).activities) if settings.app is not None else None


@trust.command()
@click.option("--key", required=True, metavar="KEY", help="Name or id of the key.")
@click.option("--dispatch", multiple=True, metavar="WORKFLOW", help="Dispatch workflows of this name (repeatable).")
@click.option("--run", multiple=True, metavar="ACTIVITY", help="Run steps of this activity (repeatable).")
@click.option("--insert", multiple=True, metavar="ACTIVITY", help="Insert steps of this activity (repeatable).")
@click.option("--scopes", "--scope", multiple=True, metavar="SCOPE", help="Give this scope (repeatable).")
@click.option("--order", multiple=True, metavar="ORDER", help="Give this order, for example redrive (repeatable).")
@click.option("--answer", multiple=True, metavar="ACTIVITY", help="Answer questions of this activity (repeatable).")
@_trust
@as_json
def explain(key: str, trust_: str | None, as_json: bool, **asked: Sequence[str]) -> None:
    """Show what the policy allows a key, and which rule says so.

    The exit code is 1 if one of the answers is no.
    """
    from paigeant.records.trust import Right

    questions = [(right, what) for right in Right for what in asked[right.value]]
    if not questions:
        raise WrongUsage("there is no question", hint=f"for example: paigeant trust explain --key {key} --run ACTIVITY")
    found = _read(trust_, settings_in_force())
    answers = [found.explain(key, right, what) for right, what in questions]
    if as_json:
        print_json(
            [{"right": one.right.value, "what": one.what, "allowed": one.is_allowed, "why": one.why} for one in answers]
        )
    else:
        rows = [("yes" if one.is_allowed else "no", one.right.value, one.what, one.why) for one in answers]
        print_table(("allowed", "right", "what", "why"), rows, none="no questions")
    if not all(one.is_allowed for one in answers):
        click.get_current_context().exit(FAILED)

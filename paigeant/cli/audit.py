from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from paigeant.cli.connect import ask_store, full_id, settings_in_force
from paigeant.cli.errors import FAILED, WrongUsage, warn
from paigeant.cli.files import write_lines
from paigeant.cli.group import Subcommands, help_alone
from paigeant.cli.keys import DEFAULT, policy_path
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import iso, json_text, print_json, print_json_line, print_table, readable
from paigeant.cli.text import counted, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paigeant.decisions.audit import Audited
    from paigeant.security.trail import Trails
    from paigeant.store import Store

_trust = click.option(
    "--trust", "trust_", metavar="FILE", help=f"Trust policy. Default: the setting trust, else {DEFAULT}."
)
_family = click.option("--family", is_flag=True, help="Include the workflows that this workflow started.")


@click.group(cls=Subcommands, invoke_without_command=True)
@click.pass_context
def audit(context: click.Context) -> None:
    """Export and verify the audit trail of a workflow.

    The trail consists of the signed statements in the store. It shows who dispatched the workflow, ran its steps,
    answered its questions and gave orders.
    """
    help_alone(context)


@audit.command()
@click.argument("id")
@_family
@click.option("-o", "--output", metavar="FILE", help="New file to write. Default: standard output.")
@connections
def export(id: str, family: bool, output: str | None) -> None:  # noqa: A002 - the argument's name in --help
    """Export the audit trail of a workflow as JSON lines.

    The lines have the signed statements, so that you can verify them elsewhere. They have digests instead of
    arguments and outputs.
    """
    trails = ask_store(lambda store: _gathered(store, id, family=family))
    if output is None:
        for one in trails.lines():
            print_json_line(one)
    else:
        write_lines(output, [json_text(one, only_ascii=True) for one in trails.lines()])
        say(f"exported {counted(sum(map(len, trails.statements.values())), 'statement')} to {output}", err=True)


async def _gathered(store: Store, beginning: str, *, family: bool) -> Trails:
    from paigeant.security.trail import gathered

    return await gathered(store, await full_id(store, beginning), has_family=family)


@audit.command()
@click.argument("what", metavar="FILE|ID")
@_trust
@_family
@as_json
@connections
@click.pass_context
def verify(context: click.Context, what: str, trust_: str | None, family: bool, as_json: bool) -> None:
    """Check an audit trail, and print who did what.

    FILE is an exported trail, - is standard input. ID is a workflow in the store. For a file, the command needs only
    the trust policy and the public keys. The exit code is 1 if a statement is missing, changed or not allowed.
    """
    from paigeant.security.trail import verified
    from paigeant.security.verifying import verifier_of

    settings = settings_in_force()
    notary = verifier_of(policy_path(trust_, settings), settings)
    found = verified(_trails(what, family=family), notary)
    if as_json:
        print_json([_as_data(one) for one in found])
    else:
        _print(found)
    if any(one.faults for one in found):
        context.exit(FAILED)


def _trails(what: str, *, family: bool) -> Trails:
    from paigeant.security.trail import read

    if what != "-" and not Path(what).exists():
        return ask_store(lambda store: _gathered(store, what, family=family))
    try:
        with click.open_file(what, "rb") as file:
            return read(file)
    except OSError as error:
        raise WrongUsage(f"cannot read {what!r}: {error.strerror}", hint="name an exported trail, or a workflow") from (
            error
        )


def _as_data(one: Audited) -> dict[str, Any]:
    deeds = [asdict(deed) | {"at": iso(deed.at)} for deed in one.deeds]
    faults = [asdict(fault) for fault in one.faults]
    about = {"workflow": one.workflow, "name": one.name or None, "status": one.status, "verified": not one.faults}
    return about | {"faults": faults, "not_covered": list(one.missing), "deeds": deeds}


def _print(found: Sequence[Audited]) -> None:
    for one in found:
        proved = f"ended: {one.status}" if one.status else "no end is proved"
        say(f"workflow {one.workflow}  {one.name}  {proved}")
        rows = [(readable(deed.at), deed.key, deed.text + (" (void)" if deed.is_void else "")) for deed in one.deeds]
        print_table(("time (UTC)", "key", "did"), rows, none="nothing is proved")
        for workflow in one.missing:
            warn(f"Not covered: workflow {workflow}, which this workflow dispatched; add --family")
        for fault in one.faults:
            warn(f"Wrong: {fault.text} ({fault.code})")
        click.echo()
    faults = sum(len(one.faults) for one in found)
    if faults:
        warn(f"{counted(faults, 'fault')}: this trail does not prove what happened")
    else:
        say(f"{counted(len(found), 'workflow')} verified: every statement is signed, allowed and in its place")

"""Code that ``approve`` and ``deny`` share."""

from __future__ import annotations

import getpass
import sys
from typing import Any

import click

from paigeant.cli.connect import app_or_urls, ask, ask_to_send, for_reading, full_id, store_of
from paigeant.cli.errors import WrongUsage
from paigeant.cli.output import print_json
from paigeant.cli.text import say
from paigeant.records.workflow import Held
from paigeant.wire.approval import KEY, SHOWN

question = click.option(
    "--question",
    metavar="QUESTION",
    help="Request to answer, as `paigeant approvals` lists it. Required without a terminal.",
)
"""The option that names the question a person has read."""


def decide(beginning: str, question: str | None, *, as_json: bool, **said: Any) -> None:
    """Answer a question of the workflow whose id begins so, and print that."""
    said["by"] = said.get("by") or _user()
    if question is None:
        open_now = ask(for_reading(app_or_urls()), lambda app: _open(app, beginning))
        question = _confirmed(open_now, approves=said["approved"])

    async def send(app: Any) -> str:
        workflow = app.workflow(await full_id(store_of(app), beginning))
        await workflow.decide(question=question, **said)
        return str(workflow.correlation_id)

    correlation_id = ask_to_send(send)
    if as_json:
        print_json({"correlation_id": correlation_id, "question": question, **said})
    else:
        say(f"{correlation_id}  {'approved' if said['approved'] else 'denied'} by {said['by']}")


async def _open(app: Any, beginning: str) -> list[Held]:
    store = store_of(app)
    return list(await store.held(await full_id(store, beginning), KEY))


def _confirmed(waiting: list[Held], *, approves: bool) -> str | None:
    """The one open question, once the person at the terminal has seen it; None if no question is open.

    Raises:
        WrongUsage: nobody can be asked, or several questions are open.
    """
    if not waiting:
        return None
    if len(waiting) > 1 or not _is_terminal():
        open_now = "; ".join(f"{one.question[:SHOWN]} {one.detail.get('asks', '')!r}" for one in waiting)
        raise WrongUsage(
            f"which question do you answer? Open questions: {open_now}",
            hint=f"add: --question {waiting[0].question[:SHOWN]}",
        )
    (one,) = waiting
    say(f"{one.activity} (step {one.step_id}) asks: {one.detail.get('asks', '')}", err=True)
    if (details := one.detail.get("details")) is not None:
        print_json(details, err=True)
    click.confirm("Approve this?" if approves else "Deny this?", abort=True, err=True)
    return one.question


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a user database
        return None

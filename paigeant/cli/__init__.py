"""The command line. Each command has its own module, imported when the command runs."""

from __future__ import annotations

import gc

import click

from paigeant.cli.group import LazyGroup
from paigeant.cli.options import ask_version

COMMANDS = {
    "Run": {
        "demo": "Run a demo workflow and kill its worker halfway.",
        "init": "Create a small example module.",
        "worker": "Run a worker for an App.",
        "execute": "Run a worker for one activity.",
    },
    "Dispatch": {
        "dispatch": "Dispatch a workflow.",
        "result": "Wait for a workflow and print its result.",
        "events": "Print the events of a workflow.",
    },
    "Steer": {
        "signal": "Send a signal to a workflow.",
        "approvals": "List open approval requests.",
        "approve": "Approve a request of a workflow.",
        "deny": "Deny a request of a workflow.",
        "cancel": "Cancel a workflow, optionally with compensation.",
        "pause": "Pause a workflow before its next step.",
        "resume": "Resume a paused workflow.",
        "retry": "Retry steps that failed or wait for an operator.",
        "fork": "Start a new workflow from a step of an existing one.",
        "schedule": "Pause, resume, run or delete a schedule.",
    },
    "Inspect": {
        "workflows": "List workflows, newest first.",
        "waiting": "List waiting steps and their reasons.",
        "workflow": "Show a workflow and its steps.",
        "schedules": "List schedules.",
        "activities": "List the activities of an App.",
        "workers": "List registered workers.",
        "queues": "List queues with their message counts.",
        "status": "Show broker, store, workflows, workers and queues.",
    },
    "Trust": {
        "keys": "Create, list, rotate and revoke signing keys.",
        "trust": "Check the trust policy, and explain its answers.",
        "audit": "Export and verify the audit trail of a workflow.",
        "slip": "Show, verify and compare messages.",
    },
    "Maintain": {
        "dlq": "List, redrive, edit or discard dead letters.",
        "recover": "Publish messages again that the broker lost.",
        "purge": "Delete the waiting messages of a queue.",
        "prune": "Delete the history of old workflows.",
        "migrate": "Create or update the database tables.",
        "doctor": "Check the installation, the broker and the store.",
        "schema": "Print the JSON Schema of messages.",
        "config": "Print the effective settings.",
        "completion": "Print a shell completion script.",
    },
}
"""The commands that ``--help`` lists. ``paigeant/cli/NAME.py`` defines the command NAME; listing imports none."""

_IMPORTING = 100_000
"""After how many new objects the garbage collector looks for circles. Modules stay: that is an eighth of a start."""


@click.group(
    cls=LazyGroup,
    sections=COMMANDS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=ask_version, help="Print the version."
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Durable, asynchronous workflows of AI agents and plain functions."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> None:
    """The entry point of the program ``paigeant``."""
    gc.set_threshold(_IMPORTING)
    cli(prog_name="paigeant")

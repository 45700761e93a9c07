"""The command line. Each command is a module of its own, imported when it is called."""

from __future__ import annotations

import gc

import click

from paigeant.cli.group import LazyGroup
from paigeant.cli.options import ask_version

COMMANDS = {
    "Run": {
        "demo": "Run a workflow over real documents, with its worker killed in the middle.",
        "init": "Write a small module to start from.",
        "worker": "Run the steps of an App.",
        "execute": "Run the steps of one activity.",
    },
    "Dispatch": {
        "dispatch": "Send a workflow on its way.",
        "result": "Wait for a workflow and print its result.",
        "events": "Print what has happened in a workflow.",
    },
    "Steer": {
        "signal": "Give a workflow a signal.",
        "approvals": "List what waits for an approval.",
        "approve": "Approve what a workflow waits for.",
        "deny": "Deny what a workflow waits for.",
        "cancel": "End a workflow, and take back what was done if wanted.",
        "pause": "Let no further step of a workflow start.",
        "resume": "Let a paused workflow go on.",
        "retry": "Try the steps again that wait for an operator, or failed.",
        "fork": "Begin another workflow from a step of one.",
        "schedule": "Pause, resume, run or delete a schedule.",
    },
    "Inspect": {
        "workflows": "List workflows, newest first.",
        "waiting": "List what waits, for what and since when.",
        "workflow": "Show a workflow and its steps.",
        "schedules": "List the schedules that workers registered.",
        "activities": "List the activities of an App.",
        "workers": "List the workers that announced themselves.",
        "queues": "List the queues and how many messages wait in each.",
        "status": "Show broker, store, workflows, workers and queues on one screen.",
    },
    "Maintain": {
        "dlq": "Look at dead letters, send them again, throw them away.",
        "recover": "Send again what the broker has lost.",
        "purge": "Delete the messages that wait in a queue.",
        "prune": "Forget workflows that ended long ago.",
        "doctor": "Check the installation, the broker and the store.",
        "schema": "Print the JSON Schema of what travels.",
        "config": "Print the settings in force.",
        "completion": "Print the completion script for a shell.",
    },
}
"""What ``--help`` lists. ``paigeant/cli/NAME.py`` has the command NAME; nothing of it is imported to list it."""

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

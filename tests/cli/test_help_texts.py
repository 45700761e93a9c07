"""Help texts are plain English: no phrase of the list in tests/language.py, in a standard form."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from language import faults

import paigeant.cli
from paigeant.cli import COMMANDS, cli


def walk(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, each with the words to type."""
    yield context.command_path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from walk(below, click.Context(below, info_name=name, parent=context))


TREE = dict(walk(cli, click.Context(cli, info_name="paigeant", **cli.context_settings)))
OPTIONS = {
    f"{path} {parameter.opts[0]}": parameter
    for path, command in TREE.items()
    for parameter in command.params
    if isinstance(parameter, click.Option) and not parameter.hidden
}
SOURCES = sorted(Path(paigeant.cli.__file__).parent.glob("*.py"))
SUMMARIES = {name: text for section in COMMANDS.values() for name, text in section.items()}


def prose(command: click.Command) -> str:
    """What a command says about itself, without the lines that are examples."""
    text = "\n\n".join(part for part in (command.help, command.epilog, command.short_help) if part)
    return "\n\n".join(part for part in text.split("\n\n") if not part.lstrip().startswith("\b"))


def test_the_whole_tree_is_walked() -> None:
    """Every command of the list, the commands below a group, and their options."""
    assert {path.split()[1] for path in TREE if " " in path} == set(SUMMARIES)
    assert "paigeant dlq redrive" in TREE
    assert "paigeant dlq redrive --older-than" in OPTIONS


@pytest.mark.parametrize("path", TREE)
def test_commands_are_described_in_plain_english(path: str) -> None:
    """The help of a command has no banned phrase and begins with a sentence."""
    text = prose(TREE[path])
    assert faults(text) == []
    assert re.match(r"[A-Z][^.]*\.", text), "begins with a sentence"


@pytest.mark.parametrize("path", [path for path in TREE if path != "paigeant"])
def test_commands_begin_with_a_verb(path: str) -> None:
    """The first word is an imperative: no article, no third person."""
    first = prose(TREE[path]).split()[0]
    assert first.rstrip(",") in VERBS, f"{first!r} is not an imperative that other commands use"


VERBS = {
    *(
        "Approve",
        "Cancel",
        "Check",
        "Create",
        "Delete",
        "Deny",
        "Discard",
        "Dispatch",
        "Edit",
        "Export",
        "Fork",
        "List",
    ),
    *(
        "Pause",
        "Print",
        "Publish",
        "Redrive",
        "Resume",
        "Retry",
        "Revoke",
        "Rotate",
        "Run",
        "Send",
        "Show",
        "Start",
        "Wait",
    ),
}


@pytest.mark.parametrize("name", SUMMARIES)
def test_summaries_are_plain_english(name: str) -> None:
    """One short imperative sentence, so that the list of commands fits a terminal of 80 columns."""
    summary = SUMMARIES[name]
    assert faults(summary) == []
    assert summary.split()[0].rstrip(",") in VERBS
    assert summary.endswith(".")
    assert summary.count(". ") == 0
    assert len(summary) <= 66


@pytest.mark.parametrize("path", OPTIONS)
def test_options_are_described_in_plain_english(path: str) -> None:
    """Every option has a help text, a sentence without a banned phrase."""
    text = OPTIONS[path].help
    assert text, "no help text"
    assert faults(text) == []
    assert re.match(r"[A-Z]", text) or text.startswith("auto:")
    assert text.endswith(".")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_messages_are_plain_english(path: Path) -> None:
    """Every text in the code of the command line: messages, hints, log lines and docstrings."""
    texts = (one.value for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, ast.Constant))
    assert [fault for text in texts if isinstance(text, str) for fault in faults(text)] == []


def test_a_banned_phrase_in_a_help_text_is_found() -> None:
    """What the tests above rely on."""

    @click.command(help="Print what happened.")
    @click.option("--all", is_flag=True, help="Only those that stand so.")
    def bad() -> None: ...

    (option,) = bad.params
    assert isinstance(option, click.Option)
    assert faults(option.help or "")

"""Commands print data by one printer, which lets no character control a terminal."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import paigeant.cli

FOLDER = Path(paigeant.cli.__file__).parent

OWN = {"output.py", "text.py", "demo.py", "init.py", "completion.py"}
"""The printers themselves, and commands that print only texts of paigeant and paths."""

PRINTERS = {"one_line", "escaped", "get_help", "style"}
"""What makes a text that may be printed."""


def printed(source: str) -> Iterator[str]:
    """Calls that print what is not a text of paigeant's own."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="json"), attr="dumps" | "dump")):
                yield ast.unparse(node)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="click"), attr="echo"), args=[text, *_]):
                yield from (ast.unparse(one) for one in _data(text))
            case ast.Call(func=ast.Name(id="print")):
                yield ast.unparse(node)


def _data(text: ast.expr) -> Iterator[ast.expr]:
    """The parts of the text that may be data."""
    match text:
        case ast.JoinedStr(values=parts):
            for part in parts:
                if isinstance(part, ast.FormattedValue):
                    yield from _data(part.value)
        case ast.BinOp(left=left, right=right):
            yield from _data(left)
            yield from _data(right)
        case ast.Constant():
            pass
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in PRINTERS:
            pass
        case ast.Call(func=ast.Name(id="len")):
            pass
        case _:
            yield text


ALLOWED = {
    "doctor.py": {"finding.name", "verdict"},
    "dlq.py": {"line"},  # made by json_text()
    "errors.py": {"problem.what"},  # made by one_line()
    "letters.py": {"what"},
    "options.py": {"__version__"},
    "prune.py": {"deleted", "what", "'' if deleted == 1 else 's'"},
}
"""Names that are no data, or were made harmless before."""


@pytest.mark.parametrize("file", [one.name for one in FOLDER.glob("*.py") if one.name not in OWN])
def test_data_is_printed_by_the_printers_only(file: str) -> None:
    """``print_json()``, ``print_json_line()``, ``print_table()``, ``print_facts()`` and ``say()``."""
    assert set(printed((FOLDER / file).read_text(encoding="utf-8"))) <= ALLOWED.get(file, set())


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("click.echo('a')", []),
        ("click.echo(f'a {b}')", ["b"]),
        ("click.echo(a.b, err=True)", ["a.b"]),
        ("click.echo(one_line(a))", []),
        ("json.dumps(a)", ["json.dumps(a)"]),
        ("print(a)", ["print(a)"]),
    ],
)
def test_each_way_to_print_is_found(source: str, expected: list[str]) -> None:
    """So that the test above cannot pass by looking away."""
    assert list(printed(source)) == expected

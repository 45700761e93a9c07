"""The package matches its map in the documentation; files and functions are short; private attributes stay private."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import paigeant

PACKAGE = Path(paigeant.__file__).parent
REPOSITORY = Path(__file__).parents[2]
MAP = REPOSITORY / "docs" / "explanation" / "architecture.md"

CODE = ("paigeant", "tests", "benchmarks", "examples")
LONGEST_FILE = 500
LONGEST_FUNCTION = 50
MOST_ENTRIES = 32
"""Entries of the folder paigeant/, so that its listing fits on a screen."""

TOO_LONG: set[str] = set()
"""What is still longer than it may be. Split it and remove its line; never add one."""

OF_OTHERS = {
    ("agents/durability.py", "ctx._durable_operations"): "pydantic-ai has no public way to register durable operations",
    ("agents/queue.py", "queue._paigeant_append"): "marks a queue of pydantic-ai that reports to us already",
    ("transports/amqp/link.py", "self.amqp._METHODS"): "py-amqp does not know that Connection.Blocked has an argument",
    ("transports/amqp/parts.py", "transport._quick_recv"): "py-amqp reads from its socket by this method only",
    ("transports/amqp/parts.py", "transport._write"): "py-amqp writes to its socket by this method only",
    ("transports/pump/received.py", "channel._get"): "kombu's virtual channels fetch a message by this method only",
}
"""Private attributes of third-party objects that paigeant sets, each with the reason."""


def test_the_table_of_layers_names_every_room_once():
    """Folders with a slash, modules without."""
    there = [f"{one.name}/" for one in PACKAGE.iterdir() if (one / "__init__.py").exists()]
    there += [one.stem for one in PACKAGE.glob("*.py") if not one.stem.startswith("__")]

    rows = re.findall(r"^\| [\w ]+ \| (`.+?) \| ", MAP.read_text().partition("| layer |")[2], re.MULTILINE)
    drawn = Counter(name for row in rows for name in re.findall(r"`([\w/]+)`", row))

    assert drawn == Counter(there)


def test_every_stop_of_a_message_is_where_the_walk_says():
    """At most twelve, each a function in the file that is named beside it."""
    table = MAP.read_text().partition("| stop |")[2].partition("\n\n")[0]
    stops = re.findall(r"^\| \d+ \| `([\w.]+)` \| `([\w/]+)\.py` \|", table, re.MULTILINE)
    assert 8 < len(stops) <= 12
    assert len(stops) == table.count("\n") - 1, "every row is read"
    for name, file in stops:
        found: object = import_module(file.replace("/", "."))
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found)
        assert getattr(found, "__module__", None) == file.replace("/", "."), f"{name} is defined elsewhere"


def test_the_files_that_the_page_names_exist():
    """In the package, from its root or from the repository's."""
    for file in re.findall(r"`(?:paigeant/)?([\w/]+\.py)`", MAP.read_text()):
        assert (PACKAGE / file).is_file(), file


def private_writes(tree: ast.Module) -> Iterator[str]:
    """Private attributes that the module sets or deletes on another object than ``self``, ``cls`` or its own classes.

    An object of a class counts as the module's own if a class of the module sets the attribute on ``self``, or names
    it in ``__slots__`` or as a field: a classmethod may then fill in a new object.
    """
    own = set(own_attributes(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=holder, attr=name, ctx=ast.Store() | ast.Del()):
                is_own = isinstance(holder, ast.Name) and (holder.id in ("self", "cls") or name in own)
            case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[holder, ast.Constant(value=str(name)), *_]):
                is_own = isinstance(holder, ast.Name) and holder.id in ("self", "cls")
            case _:
                continue
        if is_private(name) and not is_own:
            yield f"{ast.unparse(holder)}.{name}"


def own_attributes(tree: ast.Module) -> Iterator[str]:
    """The attributes that the classes of a module declare or set on ``self``."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name
            case ast.ClassDef(body=body):
                yield from (one.target.id for one in body if isinstance(one, ast.AnnAssign) and is_name(one.target))


def is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_no_module_sets_a_private_attribute_of_another_one():
    """Whoever needs a change asks the owner for a method."""
    found = {
        (str(path.relative_to(PACKAGE).as_posix()), write)
        for path in PACKAGE.rglob("*.py")
        for write in private_writes(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set(OF_OTHERS)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("own._unit = 1", ["own._unit"]),
        ("own._unit += 1", ["own._unit"]),
        ("del own._unit", ["own._unit"]),
        ("a, own._unit = 1, 2", ["own._unit"]),
        ("for own._unit in (): ...", ["own._unit"]),
        ("with open('x') as own._unit: ...", ["own._unit"]),
        ("self.context._unit = 1", ["self.context._unit"]),
        ("setattr(own, '_unit', 1)", ["own._unit"]),
        ("class A:\n def f(self): self._unit = 1", []),
        ("class A:\n def f(self, other): self._unit = other._unit = 1", []),
        ("class A:\n _unit: int\ndef f(one): one._unit = 1", []),
        ("own.unit = own._unit", []),
        ("own.__doc__ = ''", []),
    ],
)
def test_each_way_to_set_an_attribute_is_found(code, expected):
    """So that the test above cannot pass by looking away."""
    assert list(private_writes(ast.parse(code))) == expected


def functions(tree: ast.AST, outer: str = "") -> Iterator[tuple[str, int]]:
    """The name of each function and method, also of nested ones, with its number of lines from ``def`` on."""
    for node in ast.iter_child_nodes(tree):
        name = outer
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{outer}.{node.name}".lstrip(".")
            if not isinstance(node, ast.ClassDef):
                assert node.end_lineno is not None
                yield name, node.end_lineno - node.lineno + 1
        yield from functions(node, name)


def too_long(file: str, source: str) -> Iterator[str]:
    """The file, if it has too many lines, and each of its functions that has."""
    if len(source.splitlines()) > LONGEST_FILE:
        yield file
    yield from (f"{file} {name}()" for name, lines in functions(ast.parse(source)) if lines > LONGEST_FUNCTION)


def test_no_file_and_no_function_is_too_long():
    """At most 500 lines a file and 50 a function, in the package, tests, benchmarks and examples."""
    sources = [path for folder in CODE for path in (REPOSITORY / folder).rglob("*.py")]
    assert {path.relative_to(REPOSITORY).parts[0] for path in sources} == set(CODE), "every folder is read"
    found = {
        one
        for path in sources
        for one in too_long(path.relative_to(REPOSITORY).as_posix(), path.read_text(encoding="utf-8"))
    }
    assert found == TOO_LONG


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("#\n" * 500, []),
        ("#\n" * 501, ["a.py"]),
        ("def f():\n" + "    pass\n" * 49, []),
        ("def f():\n" + "    pass\n" * 50, ["a.py f()"]),
        ("async def f():\n" + "    pass\n" * 50, ["a.py f()"]),
        ("class A:\n    def f(self):\n" + "        pass\n" * 50, ["a.py A.f()"]),
        ("def f():\n" + "    @g\n    def h():\n" + "        pass\n" * 50, ["a.py f()", "a.py f.h()"]),
        ("if True:\n    def f():\n" + "        pass\n" * 50, ["a.py f()"]),
        ("class A:\n" + "    x = 1\n" * 60, []),
    ],
)
def test_each_kind_of_function_is_measured(source, expected):
    """So that the test above cannot pass by looking away."""
    assert list(too_long("a.py", source)) == expected


def test_the_package_has_few_entries():
    """A reader sees the whole map at once."""
    entries = [
        one.name for one in (REPOSITORY / "paigeant").iterdir() if one.name[0] != "." and one.name != "__pycache__"
    ]
    assert len(entries) <= MOST_ENTRIES, sorted(entries)

"""Reads the source of modules without importing them."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

_HOLDERS = frozenset({"App", "WorkflowDispatcher", "PaigeantAgent"})
"""Classes of paigeant: a module with an object of one of these has an App."""


def defines_app(source: str) -> bool:
    """Whether a module of the working directory assigns an App to a variable, and could be imported."""
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    imports = [one for one in module.body if isinstance(one, ast.Import | ast.ImportFrom)]
    makers = {name for one in imports for name in _makers(one)}
    values = (one.value for one in module.body if isinstance(one, ast.Assign | ast.AnnAssign))
    makes_one = any(isinstance(value, ast.Call) and ast.unparse(value.func) in makers for value in values)
    return makes_one and all(_exists(root) for one in imports for root in _roots(one))


def _makers(imported: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Return the names that the classes have after this import."""
    for one in imported.names:
        if isinstance(imported, ast.ImportFrom):
            if (imported.module or "").partition(".")[0] == "paigeant" and one.name in _HOLDERS:
                yield one.asname or one.name
        elif one.name.partition(".")[0] == "paigeant":
            yield from (f"{one.asname or one.name}.{holder}" for holder in _HOLDERS)


def _roots(imported: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """The packages that this imports from."""
    if isinstance(imported, ast.Import):
        yield from (one.name.partition(".")[0] for one in imported.names)
    elif not imported.level and imported.module:
        yield imported.module.partition(".")[0]


def _exists(root: str) -> bool:
    here = Path.cwd() / root
    if here.is_dir() or here.with_suffix(".py").is_file():
        return True
    try:
        return importlib.util.find_spec(root) is not None
    except (ImportError, ValueError):
        return False

"""Runs one Python block of a page as a program of its own: ``python program.py PAGE LINE < BLOCK``.

The block is the main module, and its folder is the first place that Python looks for modules, as when somebody types
it into ``python``. A block with ``await`` at top level runs as in ``python -m asyncio``.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import sys
from types import ModuleType


def run(source: str, page: str, line: int) -> None:
    """Tracebacks name the line of the page."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile("\n" * line + source, page, "exec", flags=flags, dont_inherit=True)
    main = sys.modules["__main__"] = ModuleType("__main__")
    sys.path[0] = ""
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, vars(main)))
    else:
        exec(code, vars(main))


if __name__ == "__main__":
    run(sys.stdin.read(), sys.argv[1], int(sys.argv[2]))

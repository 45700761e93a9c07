"""The Python blocks of the documents that paigeant was built from, and how a test runs one."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).parent
_BLOCK = re.compile(r"^## (?P<heading>[^\n]+)\n\n```python\n(?P<source>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block by its document, the heading it stands under, and its number there."""

    document: str
    heading: str
    number: int
    source: str

    def with_(self, *changes: tuple[str, str]) -> Block:
        """The block with what cannot be as printed; each is said with its reason in docs/reference/documents.md."""
        source = self.source
        for printed, run in changes:
            assert printed in source, f"{printed!r} is not in {self}"
            source = source.replace(printed, run)
        return Block(self.document, self.heading, self.number, source)

    async def run(self, module: ModuleType) -> None:
        """Execute it as the text of this module; ``await`` works at top level."""
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(self.source, f"<{self.document}: {self.heading}>", "exec", flags=flags, dont_inherit=True)
        if code.co_flags & inspect.CO_COROUTINE:
            await eval(code, vars(module))
        else:
            exec(code, vars(module))


def every_block() -> Iterator[Block]:
    for path in sorted(HERE.glob("*.md")):
        seen: dict[str, int] = {}
        for found in _BLOCK.finditer(path.read_text()):
            number = seen[found["heading"]] = seen.get(found["heading"], -1) + 1
            yield Block(path.stem, found["heading"], number, found["source"])


shown: set[tuple[str, str, int]] = set()


def shows(document: str, heading: str, number: int = 0) -> Callable[[Any], Any]:
    """Notes that the decorated test runs this block."""
    shown.add((document, heading, number))
    return lambda test: test


def block(document: str, heading: str, number: int = 0) -> Block:
    (found,) = (one for one in every_block() if (one.document, one.heading, one.number) == (document, heading, number))
    return found

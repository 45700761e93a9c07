"""For the documentation: makes Markdown of the reStructuredText roles in docstrings, and checks the API pages.

mkdocs.yml names this file twice: as a griffe extension, and as a hook that fails the build when a page promises a name
that it does not show.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`~?(?:[\w.]*\.)?(\w+)`")
_OWN = {"instance-attribute"}
"""The only label of an attribute that a method assigns and that is no field."""

_DIRECTIVE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)


class Roles(griffe.Extension):
    """Shows ``:meth:`paigeant.App.on``` as the code ``on``."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of what was just read."""
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Hide what ``__init__`` assigns and no docstring explains: it serves other modules, not users."""
        for name, member in list(cls.members.items()):
            if member.is_attribute and not member.docstring and member.labels == _OWN and member.value is not None:
                del cls.members[name]


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Fail when a directive of the page has left no heading in it."""
    missing = [name for name in _DIRECTIVE.findall(page.markdown) if f'id="{name}"' not in html]
    if missing:
        raise RuntimeError(f"{page.file.src_path} does not show {', '.join(missing)}")
    return html

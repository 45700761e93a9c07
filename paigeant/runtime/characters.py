"""Characters that nobody sees, or that a terminal obeys: the one set for screens, logs, JSON and names.

They are control characters, line separators, characters that change the direction of text, and characters without a
width. A screen shows other text than a program reads if one of them is printed as it is.
"""

from __future__ import annotations

import re
import unicodedata

_BREAKS = "\t\n"
"""Control characters that a text of several lines contains."""

_CONTROLS = "\x00-\x1f\x7f-\x9f\u2028\u2029"
_DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_WITHOUT_WIDTH = (
    "\xad\u180e\u200b-\u200d\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
_LIKE_NOTHING = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef"
"""Letters and marks that are shown as nothing. Ordinary text contains some of them, such as emoji; a name does not."""

_HIDDEN = re.compile(f"[{_CONTROLS}{_DIRECTIONS}{_WITHOUT_WIDTH}]")
_HIDDEN_BUT_BREAKS = re.compile(f"(?![{_BREAKS}])[{_CONTROLS}{_DIRECTIONS}{_WITHOUT_WIDTH}]")
_NOT_IN_NAMES = re.compile(f"[{_CONTROLS}{_DIRECTIONS}{_WITHOUT_WIDTH}{_LIKE_NOTHING}]")


def escaped(text: str, *, breaks: bool = False) -> str:
    """The text with hidden characters as escapes, so that data can neither move the cursor nor forge a line.

    Tabs and newlines stay, unless ``breaks`` says to escape them as well.
    """
    if text.isascii() and text.isprintable():
        return text
    return (_HIDDEN if breaks else _HIDDEN_BUT_BREAKS).sub(_as_escape, text)


def _as_escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def escaped_json(text: str) -> str:
    """A JSON document with hidden characters as JSON's own escapes, which mean the same."""
    return text if text.isascii() and "\x7f" not in text else _HIDDEN_BUT_BREAKS.sub(_as_json_escape, text)


def _as_json_escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def without_hidden(text: str) -> str:
    """The text without characters that nobody sees."""
    return text if text.isascii() and text.isprintable() else _NOT_IN_NAMES.sub("", text)


def not_for_names(text: str) -> str | None:
    """The first character of the text that a name must not have, for people; None if there is none."""
    found = None if text.isascii() and text.isprintable() else _NOT_IN_NAMES.search(text)
    if found is None:
        return None
    return f"U+{ord(found[0]):04X} ({unicodedata.name(found[0], 'a control character')})"

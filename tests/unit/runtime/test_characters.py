"""Characters that nobody sees or that terminals obey: one set, complete for the Unicode of this Python."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant.runtime.characters import escaped, escaped_json, not_for_names, without_hidden

SHOWN = {
    *map(chr, range(0x600, 0x606)),
    "\u06dd",
    "\u070f",
    *map(chr, range(0x890, 0x892)),
    "\u08e2",
    "\U000110bd",
    "\U000110cd",
    *map(chr, range(0x13430, 0x13440)),
}
"""Characters of the category Cf that have a shape of their own: Arabic, Syriac, Kaithi and Egyptian signs."""

EVERY = [chr(number) for number in range(sys.maxunicode + 1)]
HIDDEN = [one for one in EVERY if unicodedata.category(one) in ("Cc", "Cf", "Zl", "Zp") and one not in SHOWN]


def test_every_control_and_format_character_is_hidden():
    """By Unicode's categories; a newer Unicode may add some."""
    assert [f"U+{ord(one):04X}" for one in HIDDEN if one not in "\t\n" and escaped(one) == one] == []
    assert [f"U+{ord(one):04X}" for one in HIDDEN if not_for_names(one) is None] == []


def test_all_that_is_escaped_is_hidden():
    """Ordinary text stays as it is: letters, marks, spaces, emoji."""
    more = [one for one in EVERY if escaped(one) != one and one not in HIDDEN]
    assert {unicodedata.category(one) for one in more} <= {"Cn"}, "only code points that Unicode reserves"
    for text in ("Bestellung für Ωβδ", "注文 42", "طلب", "❤\ufe0f und ¡hola!", "a\tb\nc"):
        assert escaped(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\rb", r"a\rb"),
        ("\x9b31m", r"\x9b31m"),
        ("wo\u200brk", r"wo\u200brk"),
        ("\u202ekrow", r"\u202ekrow"),
        ("\U000e0041", r"\U000e0041"),
        ("\u2028", r"\u2028"),
    ],
)
def test_hidden_characters_are_shown_as_escapes(text, shown):
    """As Python writes them."""
    assert escaped(text) == shown


def test_lines_can_be_escaped_as_well():
    """For a text that must stay on one line."""
    assert escaped("a\nb\tc", breaks=True) == r"a\nb\tc"


@given(st.recursive(st.text() | st.integers(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)))
def test_escaped_json_says_the_same(value):
    """Nothing hidden is left in it, and every reader reads the same value from it."""
    for indent in (None, 2):
        text = escaped_json(json.dumps(value, ensure_ascii=False, indent=indent))
        assert json.loads(text) == value
        assert escaped(text) == text


@pytest.mark.parametrize("odd", ["\u200b", "\u202e", "\u2066", "\ufeff", "\x00", "\n", "\x9b", "\u3164", "\ufe0f"])
def test_a_name_has_none_of_them(odd):
    """The first one is named, for people."""
    assert not_for_names(f"wo{odd}rk").startswith(f"U+{ord(odd):04X} (")
    assert without_hidden(f"wo{odd}rk") == "work"


@pytest.mark.parametrize("name", ["work", "Bestellung für Ωβδ", "注文", "طلب", "naïve-café", "a b.c:d/e@f#g+h"])
def test_names_in_every_script_are_allowed(name):
    """Letters, marks, digits, punctuation and spaces."""
    assert not_for_names(name) is None

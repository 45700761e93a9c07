from __future__ import annotations

import pytest

from paigeant.runtime.lookalikes import likeness, look_alikes, told_apart


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("pay", "p\u0430y"),  # Cyrillic a
        ("pay", "\uff50\uff41\uff59"),  # full width
        ("caf\u00e9", "cafe\u0301"),
        ("work", "wo\u200brk"),
        ("order1", "orderl"),
        ("ORDER", "\u041eRDER"),
        ("a-b", "a\u2010b"),
        ("scope", "\u0455\u0441\u043e\u0440\u0435"),
    ],
)
def test_names_that_look_the_same_are_found(name, other):
    """In whatever script."""
    assert look_alikes([name, "different", other, name]) == [sorted({name, other})]


@pytest.mark.parametrize("names", [["pay", "Pay"], ["pay", "paid"], ["a_b", "a-b"], ["ship", "shop"], []])
def test_names_that_people_can_tell_apart_are_not(names):
    """Capitals, for example, are seen."""
    assert look_alikes(names) == []


def test_a_likeness_is_the_likeness_of_itself():
    """Each letter leads to one that is not replaced again."""
    for number in range(0x20, 0x3000):
        once = likeness(chr(number))
        assert likeness(once) == once


def test_names_are_told_apart_by_their_escapes():
    """ASCII names are shown as they are."""
    assert told_apart(["pay", "p\u0430y"]) == "'pay', 'p\u0430y' ('p\\u0430y')"

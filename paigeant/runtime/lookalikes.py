"""Names that differ only by letters that look alike, such as a Latin and a Cyrillic ``a``."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from paigeant.runtime.characters import escaped, without_hidden

# From confusables.txt of UTS #39: letters that look like a Latin one in most fonts, as code point and likeness.
_LETTERS = (
    "0405S 0406I 0408J 0410A 0412B 0415E 041aK 041cM 041dH 041eO 0420P 0421C 0422T 0425X "  # Cyrillic
    "0430a 0435e 043eo 0440p 0441c 0443y 0445x 0455s 0456i 0458j 0461w 0475v 04aey 04bbh "  # Cyrillic
    "04cfl 0501d 050cG 050dg 051aQ 051bq 051cW 051dw "  # Cyrillic
    "0391A 0392B 0395E 0396Z 0397H 0399I 039aK 039cM 039dN 039fO 03a1P 03a4T 03a5Y 03a7X "  # Greek
    "03b1a 03b3y 03b7n 03b9i 03bak 03bdv 03bfo 03c1p 03c4t 03c5u 03c7x 03c9w 03f2c 03f3j "  # Greek
    "03f9C 1d26r "  # Greek
    "2010- 2011- 2012- 2013- 2014- 2018' 2019' 2024. 2044/ 2212- 2215/ "  # punctuation
    "0566q 0570h 0578n 057du 0581g 0585o "  # Armenian
    "0131i 0237j 0251a 0261g 028fY "  # Latin
    "0030O 0031l 0049l 007cl "  # ASCII
)
_LIKE = {int(pair[:4], 16): pair[4] for pair in _LETTERS.split()}


def likeness(name: str) -> str:
    """A text that is the same for all names that look the same."""
    composed = unicodedata.normalize("NFKC", without_hidden(name)).translate(_LIKE)
    return unicodedata.normalize("NFKC", composed).translate(_LIKE)


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """The groups of different names that look the same, each sorted."""
    groups = defaultdict[str, set[str]](set)
    for name in names:
        groups[likeness(name)].add(name)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def told_apart(names: Iterable[str]) -> str:
    """The names for people, each that is not ASCII with its escapes."""
    return ", ".join(f"{escaped(name)!r} ({name!a})" if not name.isascii() else repr(name) for name in names)

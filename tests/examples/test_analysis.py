"""What the demo and its example find out about texts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from paigeant.demo import analysis
from paigeant.demo.analysis import Counted, Section

BEES = "Bees gather nectar from flowers and turn the nectar into honey."


def section(text: str, document: str = "a.md", title: str = "T") -> Section:
    return Section(document=document, title=title, text=text)


def test_documents_are_cut_at_their_headings() -> None:
    """Markdown, reStructuredText and Python have headings of their own; text before the first has the file's name."""
    text = "before\n# One\nfirst\nTwo\n---\nsecond\ndef three(x):\n    third"

    found = [(one.title, one.text) for one in analysis.sections_of("mixed", text)]

    assert found == [("mixed", "before"), ("One", "first"), ("Two", "---\nsecond"), ("def three", "third")]


def test_key_terms_are_what_others_do_not_have() -> None:
    """A word that every document uses weighs less than one of its own."""
    counted = Counted([section(BEES), section("Bees and whales, whales and bees, whales.", "b.md")])

    terms = analysis.key_terms(counted.by_document, most=1)

    assert terms == {"a.md": ["nectar"], "b.md": ["whales"]}


def test_resampling_is_the_same_for_the_same_seed() -> None:
    """A step that runs again gives the same numbers."""
    counted = Counted([section(BEES), section("Whales sing.", title="U"), section("Bees sting.", title="V")])

    first, second = analysis.stays(counted, 20, seed=1), analysis.stays(counted, 20, seed=1)

    assert first == second
    assert isinstance(first["a.md"], Counter)


def test_near_copies_are_found_across_documents() -> None:
    """Sections with the same sentences are told; others are not."""
    same = section(BEES + " Nobody knows how.", "b.md", "Copy")
    other = section("Whales sing under water, far away from every flower or field.", "c.md")

    (copy,) = analysis.near_copies([section(BEES), same, other])

    assert (copy.one, copy.other) == ("a.md: T", "b.md: Copy")
    assert 0.5 <= copy.overlap < 1


def test_hidden_folders_and_too_much_text_are_left_out(tmp_path: Path) -> None:
    """The demo is to end within seconds, whatever folder it is pointed at."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "readme.md").write_text("hidden")
    (tmp_path / "a.md").write_text("x" * 600_000)
    (tmp_path / "b.md").write_text("x" * 600_000)
    (tmp_path / "c.bin").write_text("no text")

    taken, left_out = analysis.documents_in(tmp_path)

    assert [path.name for path in taken] == ["a.md"]
    assert left_out == 1

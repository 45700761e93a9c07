"""The analysis of the demo: sections of documents, their key terms, the stability of these terms, and near copies.

The functions take and return plain values and do not depend on workflows.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from pydantic import BaseModel

KINDS = (".md", ".markdown", ".rst", ".txt", ".py")
MOST_BYTES = 1_000_000
"""Maximum number of bytes to read, so that the demo ends within seconds."""

_HEADING = re.compile(r"^(?:#{1,6} +(?P<md>.+)|(?P<py>(?:async )?def \w+|class \w+).*)$")
_UNDERLINE = re.compile(r"^(?P<mark>[=\-~^\"'#*+])(?P=mark){2,}\s*$")
_WORD = re.compile(r"[^\W\d_]{3,}")
_SENTENCE_END = re.compile(r"[.!?:](?=\s|$)")
_STOP_WORDS = frozenset(
    """
    about after again all also and any are because been before being between both but can could did does doing
    each else even every few first for from get had has have having her here him his how into its just like
    made make many may more most must not now one only other our out over own same see should since some still
    such than that the their them then there these they this those through too under until upon use used uses
    using very was way were what when where whether which while who whose why will with without would you your
    self def none return import str int bool class true false await async list dict type any elif isinstance
    raise yield lambda
    """.split()  # noqa: SIM905 - readable as text
)


class Section(BaseModel):
    """A part of a document under one heading."""

    document: str
    title: str
    text: str


class Report(BaseModel):
    """The results of the whole analysis."""

    documents: dict[str, DocumentFacts]
    copies: list[Copy]
    resamples: int


class DocumentFacts(BaseModel):
    """Numbers about one document. ``terms`` maps each key term to the share of resamples in which it stays one."""

    sections: int
    words: int
    words_per_sentence: float
    terms: dict[str, float]


class Copy(BaseModel):
    """Two sections with nearly the same text; ``overlap`` is the share of five-word sequences that both contain."""

    one: str
    other: str
    overlap: float


# --- reading -------------------------------------------------------------------------------------------------------


def documents_in(path: Path) -> tuple[list[Path], int]:
    """Return the documents of a folder, or the one file; and how many documents exceed the limit on size."""
    if path.is_file():
        return [path], 0
    found = sorted(one for one in path.rglob("*") if one.suffix in KINDS and one.is_file() and _is_visible(one, path))
    taken, size = [], 0
    for one in found:
        size += one.stat().st_size
        if size <= MOST_BYTES:
            taken.append(one)
    return taken, len(found) - len(taken)


def _is_visible(path: Path, root: Path) -> bool:
    parts = path.relative_to(root).parts
    return not any(part.startswith(".") or part in ("node_modules", "__pycache__") for part in parts)


def sections_of(name: str, text: str) -> list[Section]:
    """Split the document at its headings: Markdown, reStructuredText, or a module's functions and classes."""
    parts: list[tuple[str, list[str]]] = [(name, [])]
    lines = text.splitlines()
    for number, line in enumerate(lines):
        below = lines[number + 1] if number + 1 < len(lines) else ""
        if heading := _HEADING.match(line):
            parts.append(((heading["md"] or heading["py"]).strip(" #"), []))
        elif line.strip() and _UNDERLINE.match(below):
            parts.append((line.strip(), []))
        else:
            parts[-1][1].append(line)
    joined = ((title, "\n".join(body).strip()) for title, body in parts)
    return [Section(document=name, title=title, text=body) for title, body in joined if body]


def words_of(text: str) -> list[str]:
    """Return the words that carry meaning, in lower case."""
    return [word for word in (found.lower() for found in _WORD.findall(text)) if word not in _STOP_WORDS]


# --- counting ------------------------------------------------------------------------------------------------------


class Counted:
    """The words of all sections, counted once, so that ranking them many times is cheap."""

    def __init__(self, sections: Sequence[Section]) -> None:
        self.by_document: dict[str, list[Counter[str]]] = defaultdict(list)
        for section in sections:
            self.by_document[section.document].append(Counter(words_of(section.text)))

    @property
    def cost(self) -> float:
        """Estimated microseconds for one ranking."""
        sections = [words for parts in self.by_document.values() for words in parts]
        return 20 + 10 * len(self.by_document) + 3 * len(sections) + 0.8 * sum(map(len, sections))

    def resampled(self, dice: random.Random) -> Mapping[str, Sequence[Counter[str]]]:
        """Draw a sample of each document's sections with replacement, as many as the document has."""
        return {name: dice.choices(parts, k=len(parts)) for name, parts in self.by_document.items()}


def key_terms(documents: Mapping[str, Sequence[Counter[str]]], most: int = 5) -> dict[str, list[str]]:
    """Return for each document the words that are frequent in it and rare in the others (TF-IDF)."""
    totals = {name: _sum(sections) for name, sections in documents.items()}
    spread = Counter(word for words in totals.values() for word in words)
    rarity = {word: math.log((1 + len(totals)) / (1 + count)) + 1 for word, count in spread.items()}
    return {
        name: sorted(words, key=lambda word: (-words[word] * rarity[word], word))[:most]
        for name, words in totals.items()
    }


def _sum(counters: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in counters:
        total.update(one)
    return total


def resamples_for(counted: Counted) -> int:
    """Return the number of resamples that take a few seconds, whatever the documents' size."""
    return max(40, int(2_500_000 / counted.cost))


def stays(counted: Counted, resamples: int, seed: int) -> dict[str, Counter[str]]:
    """Count how often each word is a key term of its document when the sections are resampled (bootstrap)."""
    dice = random.Random(seed)
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for _ in range(resamples):
        for name, terms in key_terms(counted.resampled(dice)).items():
            found[name].update(terms)
    return found


# --- near copies -----------------------------------------------------------------------------------------------------


def near_copies(sections: Sequence[Section], least: float = 0.5) -> list[Copy]:
    """Return pairs of sections that share at least this fraction of their five-word sequences."""
    sequences = [set(_sequences(words_of(section.text))) for section in sections]
    owners: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, found in enumerate(sequences):
        for sequence in found:
            owners[sequence].append(number)
    shared = Counter(pair for numbers in owners.values() if len(numbers) < 50 for pair in combinations(numbers, 2))
    copies = []
    for (one, other), common in shared.items():
        overlap = common / len(sequences[one] | sequences[other])
        if overlap >= least:
            copies.append(Copy(one=_label(sections[one]), other=_label(sections[other]), overlap=round(overlap, 2)))
    return sorted(copies, key=lambda copy: (-copy.overlap, copy.one))


def _sequences(words: Sequence[str], length: int = 5) -> Iterator[tuple[str, ...]]:
    return (tuple(words[start : start + length]) for start in range(len(words) - length + 1))


def _label(section: Section) -> str:
    return f"{section.document}: {section.title}"


# --- the report ------------------------------------------------------------------------------------------------------


def facts_of(sections: Sequence[Section], terms: Mapping[str, float]) -> DocumentFacts:
    """Compute the numbers about one document."""
    text = "\n".join(section.text for section in sections)
    words = len(re.findall(r"\w+", text))
    sentences = max(1, len(_SENTENCE_END.findall(text)))
    return DocumentFacts(
        sections=len(sections), words=words, words_per_sentence=round(words / sentences, 1), terms=dict(terms)
    )


def as_markdown(report: Report) -> str:
    """Format the report as Markdown."""
    by_length = sorted(report.documents.items(), key=lambda item: -item[1].words)
    lines = [
        "# What is in these documents",
        "",
        f"{len(by_length)} documents, {sum(facts.words for _, facts in by_length):,} words. A term's number is the"
        f" share of {report.resamples:,} resamples in which it stayed a key term of its document.",
        "",
        f"Longest: `{by_length[0][0]}`, {by_length[0][1].words:,} words."
        f" Shortest: `{by_length[-1][0]}`, {by_length[-1][1].words:,} words.",
        "",
        "| document | words | sections | words per sentence | key terms |",
        "|---|---:|---:|---:|---|",
    ]
    for name, facts in by_length:
        terms = ", ".join(f"{word} {share:.0%}" for word, share in facts.terms.items())
        lines.append(f"| {name} | {facts.words:,} | {facts.sections} | {facts.words_per_sentence} | {terms} |")
    lines += ["", "## Sections that say nearly the same", ""]
    lines += [f"- {copy.one} and {copy.other}: {copy.overlap:.0%}" for copy in report.copies] or ["None."]
    return "\n".join(lines) + "\n"

"""The App that the demo's workers serve: read, rank, write.

The outputs of the steps are small: a path and some numbers. Large texts stay in files.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from paigeant.app import App
from paigeant.context import ActivityContext
from paigeant.demo import analysis
from paigeant.runtime import private

ROUNDS = 40
"""Number of rounds in which ``rank`` does its work; each ends with a heartbeat."""

app = App("demo")


class Sections(BaseModel):
    """The output of ``read``."""

    path: Path
    documents: int
    sections: int
    left_out: int


class Ranking(BaseModel):
    """The output of ``rank``."""

    path: Path
    resamples: int
    copies: int


@app.activity
def read(source: Path, folder: Path, ctx: ActivityContext) -> Sections:
    """Cut the documents into sections."""
    note_start(folder, ctx)
    documents, left_out = analysis.documents_in(source)
    root = source if source.is_dir() else source.parent
    sections = [
        section
        for path in documents
        for section in analysis.sections_of(path.relative_to(root).as_posix(), path.read_text(errors="replace"))
    ]
    path = replaced(folder / "sections.json", _SECTIONS.dump_json(sections))
    return Sections(path=path, documents=len(documents), sections=len(sections), left_out=left_out)


@app.activity
async def rank(read: Sections, folder: Path, ctx: ActivityContext) -> Ranking:
    """Find key terms and near copies; resample the sections to see which key terms are stable."""
    note_start(folder, ctx)
    sections = _SECTIONS.validate_json(read.path.read_bytes())
    counted = analysis.Counted(sections)
    resamples = analysis.resamples_for(counted)
    kept: dict[str, Counter[str]] = defaultdict(Counter)
    for number in range(ROUNDS):
        share = resamples * (number + 1) // ROUNDS - resamples * number // ROUNDS
        for name, words in analysis.stays(counted, share, seed=number).items():
            kept[name].update(words)
        await ctx.heartbeat({"round": number + 1, "of": ROUNDS})
    copies = analysis.near_copies(sections)
    documents = {}
    for name, terms in analysis.key_terms(counted.by_document).items():
        own = [section for section in sections if section.document == name]
        documents[name] = analysis.facts_of(own, {term: round(kept[name][term] / resamples, 2) for term in terms})
    report = analysis.Report(documents=documents, copies=copies, resamples=resamples)
    path = replaced(folder / "ranking.json", report.model_dump_json().encode())
    return Ranking(path=path, resamples=resamples, copies=len(copies))


@app.activity
def write(ranked: Ranking, folder: Path, ctx: ActivityContext) -> Path:
    """Write the report as JSON and as Markdown."""
    note_start(folder, ctx)
    report = analysis.Report.model_validate_json(ranked.path.read_bytes())
    replaced(folder / "report.json", report.model_dump_json(indent=2).encode())
    return replaced(folder / "report.md", analysis.as_markdown(report).encode())


_SECTIONS = TypeAdapter(list[analysis.Section])


def replaced(path: Path, content: bytes) -> Path:
    """Write the file atomically, so that a step that is killed here leaves no partial file for the next step."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    private.ensure(draft)
    draft.write_bytes(content)
    return draft.replace(path)


def note_start(folder: Path, ctx: ActivityContext) -> None:
    """Append a line for every start of a step, so that the demo can count starts independently of the store."""
    with private.append(folder / "starts.log") as log:
        log.write(f"{ctx.step.name} {ctx.deliveries} {os.getpid()}\n")

"""What is in these documents? The workflow of ``paigeant demo``, as you would write it in an App of your own.

    python examples/documents/documents.py docs       # dispatches one workflow and works it off in this process
    paigeant worker -A examples/documents/documents.py  # or let workers do it; kill one and start another, as you like

The report is written to the folder ``documents-report``.
"""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import BaseModel

from paigeant import ActivityContext, App, Depends, Worker
from paigeant.demo import analysis

app = App("documents")


class Library(BaseModel):
    """What the first step hands on: where the documents are, not what is in them. Messages stay small."""

    root: Path
    paths: list[Path]


class KeyTerms(BaseModel):
    document: Path
    terms: dict[str, float]
    copies: list[str]


def dice(ctx: ActivityContext) -> random.Random:
    """Chance that is the same for every delivery of a step, so that a repetition gives the same report."""
    return random.Random(ctx.idempotency_key)


@app.activity
def collect(source: Path) -> Library:
    """Find the documents."""
    paths, _ = analysis.documents_in(source)
    if not paths:
        raise ValueError(f"there are no documents in {str(source)!r}")
    return Library(root=source.resolve(), paths=[path.resolve() for path in paths])


@app.activity(timeout=300)
async def rank(library: Library, chance: random.Random = Depends(dice)) -> AsyncIterator[KeyTerms]:
    """Find each document's key terms. Every value is streamed as it is found; all of them together are the output."""
    sections = [
        section
        for path in library.paths
        for section in analysis.sections_of(str(path), path.read_text(errors="replace"))
    ]
    counted = analysis.Counted(sections)
    resamples = min(analysis.resamples_for(counted), 200)
    kept = await asyncio.to_thread(analysis.stays, counted, resamples, chance.randrange(2**32))
    copies = analysis.near_copies(sections)
    for name, terms in analysis.key_terms(counted.by_document).items():
        yield KeyTerms(
            document=Path(name),
            terms={term: round(kept[name][term] / resamples, 2) for term in terms},
            copies=[copy.other for copy in copies if copy.one.startswith(f"{name}: ")],
        )


@app.activity
def write(ranked: list[KeyTerms], ctx: ActivityContext) -> Path:
    """Write the report."""
    library = ctx.output("collect", Library)
    lines = ["# Key terms", ""]
    for one in ranked:
        name = one.document.name if one.document == library.root else one.document.relative_to(library.root)
        lines.append(f"- **{name}**: {', '.join(f'{term} ({share:.0%})' for term, share in one.terms.items())}")
        lines += [f"  - says nearly the same as {copy}" for copy in one.copies]
    folder = Path("documents-report")
    folder.mkdir(exist_ok=True)
    path = folder / f"{ctx.correlation_id}.md"
    path.write_text("\n".join(lines) + "\n")
    return path


async def main(source: str) -> None:
    """Dispatch one workflow and work it off here."""
    workflow = await app.dispatch(collect.step(source=Path(source)), rank, write)
    print("workflow", workflow)
    await Worker(app, burst=True).run()
    path = await workflow.result(timeout=5)
    print(path.read_text())
    await app.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "docs"))

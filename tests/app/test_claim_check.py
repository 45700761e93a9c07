"""Arguments and variables that are too large to travel: kept in the store or in a directory, and there when needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from paigeant import ActivityContext, ActivitySpec, App, await_signal, scatter
from paigeant.database import Database
from paigeant.errors import ConfigurationError, MessageTooLarge, WorkflowFailed
from paigeant.transport import Outgoing

pytestmark = pytest.mark.anyio

LARGE = 3_000_000
"""Characters: more than a message may have."""


@pytest.fixture(params=["joined", "apart", "directory"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., App], tmp_path: Path) -> App:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    if request.param == "directory":
        return make_app(store, store, claim_check=f"file://{tmp_path / 'values'}")
    return make_app(store if request.param == "joined" else f"sqlite:///{tmp_path / 'broker.db'}", store)


@pytest.fixture
def sizes(app: App, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each message that is sent."""
    sent: list[int] = []
    for name in ("settle", "send"):
        monkeypatch.setattr(type(app.transport), name, _watched(getattr(type(app.transport), name), sent))
    return sent


def _watched(call: Callable[..., Any], sent: list[int]) -> Callable[..., Any]:
    async def watched(self: Any, *arguments: Any) -> Any:
        sent.extend(
            len(one.body)
            for part in arguments
            if isinstance(part, list | tuple)
            for one in part
            if isinstance(one, Outgoing)
        )
        return await call(self, *arguments)

    return watched


def kept(app: App, tmp_path: Path) -> list[int]:
    """The sizes of the values that are kept, the smallest first."""
    if app.settings.claim_check:
        return sorted(one.stat().st_size for one in (tmp_path / "values").glob("*/*"))
    return sorted(row[0] for row in change(app, "SELECT length(data) FROM paigeant_value"))


def change(app: App, statement: str) -> list[Any]:
    database = Database(app.store.url)
    with database.writer() as connection, connection.begin():
        done = connection.execute(text(statement))
        rows = list(done.all()) if done.returns_rows else []
    database.dispose()
    return rows


def lose(app: App, tmp_path: Path) -> None:
    """Delete what is kept."""
    if app.settings.claim_check:
        for one in (tmp_path / "values").glob("*/*"):
            one.unlink()
    else:
        change(app, "DELETE FROM paigeant_value")


def spoil(app: App, tmp_path: Path) -> None:
    """Put something else in its place."""
    if app.settings.claim_check:
        for one in (tmp_path / "values").glob("*/*"):
            one.write_text('"something else"')
    else:
        change(app, "UPDATE paigeant_value SET data = CAST('\"something else\"' AS BLOB)")


async def test_large_arguments_and_variables_are_there_when_they_are_needed(app, running, sizes, tmp_path):
    """Typed as ever, in every step and branch; only by reference on the broker, and kept once each."""

    @app.activity
    def measure(pages: list[int], ctx: ActivityContext) -> int:
        assert isinstance(pages[0], int)
        return len(pages) + len(ctx.variables["book"])

    @app.activity
    def later(count: int, book: str) -> int:
        return count + len(book)

    @app.activity
    def total(results: list[Any], book: str) -> int:
        return sum(one["output"] for one in results) + len(book)

    pages = list(range(LARGE // 6))
    async with running(app):
        steps = measure.step(pages=pages), scatter(later, later, later), total
        workflow = await app.dispatch(*steps, variables={"book": "b" * LARGE})
        assert await workflow.result(60) == 3 * (len(pages) + 2 * LARGE) + LARGE
    assert max(sizes) < 65_536
    assert kept(app, tmp_path) == sorted([len(str(pages).replace(" ", "")), LARGE + 2])


async def test_a_step_changes_a_large_variable_and_takes_back_by_a_large_argument(app, running, sizes):
    """What is set is what the next one sees; a compensation is given what its step was."""
    undone = []

    @app.activity
    def append(part: str, ctx: ActivityContext) -> None:
        ctx.variables["book"] += part

    @append.compensate
    def remove(part: str) -> None:
        undone.append(len(part))

    @app.activity
    def fail(book: str) -> None:
        raise ValueError(f"{len(book)} is too long")

    async with running(app):
        workflow = await app.dispatch(append.step(part="p" * LARGE), fail, variables={"book": "b" * LARGE})
        with pytest.raises(WorkflowFailed, match=f"{2 * LARGE} is too long"):
            await workflow.result(60)
    assert undone == [LARGE]
    assert max(sizes) < 65_536


async def test_a_large_signal_reaches_the_step_that_waits_for_it(app, running, sizes):
    """As any other."""

    @app.activity
    def count(word: str) -> int:
        return len(word)

    async with running(app):
        workflow = await app.dispatch(await_signal("word"), count)
        await workflow.signal("word", "w" * LARGE)
        assert await workflow.result(60) == LARGE
    assert max(sizes) < 65_536


@pytest.mark.parametrize(
    ("mishap", "says"),
    [
        (lose, "ValueMissing: read.arguments.* and is not there any more"),
        (spoil, "ValueMissing: read.* SHA-256 is not"),
    ],
    ids=["lost", "spoilt"],
)
async def test_a_value_that_is_lost_fails_the_step_that_needs_it(app, running, tmp_path, mishap, says):
    """With what is missing; what was done is taken back, and the worker goes on."""
    undone = []

    @app.activity
    def first() -> str:
        return "done"

    @first.compensate
    def back(output: str) -> None:
        undone.append(output)

    @app.activity
    def read(doc: str) -> int:
        return len(doc)

    workflow = await app.dispatch(first, read.step(doc="d" * LARGE))
    mishap(app, tmp_path)
    async with running(app):
        with pytest.raises(WorkflowFailed, match=says):
            await workflow.result(60)
        assert await (await app.dispatch(read.step(doc="x" * LARGE))).result(60) == LARGE
    assert undone == ["done"]


async def test_many_values_of_middling_size_go_aside_together(app, running, sizes):
    """When the message would be too large with them."""

    @app.activity
    def total(ctx: ActivityContext) -> int:
        return sum(map(len, ctx.variables.values()))

    variables = {f"v{n}": f"{n:04}" * 10_000 for n in range(40)}
    async with running(app):
        assert await (await app.dispatch(total, variables=variables)).result(60) == 40 * 40_000
    assert max(sizes) < 65_536


def test_without_store_and_claim_check_a_large_value_is_refused_by_name(make_app):
    """As is one that is larger than may be kept; nothing is sent."""
    refusing = make_app("memory://", "none")
    with pytest.raises(MessageTooLarge, match=r"the limit 1,048,576; read\.arguments\['doc'\] alone takes"):
        refusing.dispatch(read_step("d" * LARGE))
    keeping = make_app("memory://")
    keeping.settings = keeping.settings.model_copy(update={"value_limit": LARGE})
    with pytest.raises(MessageTooLarge, match=r"read\.arguments\['doc'\] is 3,000,003 bytes, the limit for a value"):
        keeping.dispatch(read_step("d" * (LARGE + 1)))


def read_step(doc: str) -> Any:
    return ActivitySpec(name="read", arguments={"doc": doc})


def test_a_claim_check_that_nothing_knows_is_refused(make_app):
    """With what one looks like."""
    with pytest.raises(ConfigurationError, match="nothing here keeps values at 'nosuch://x'") as refused:
        make_app("memory://", claim_check="nosuch://x").dispatch("anything")
    assert "file:///" in str(refused.value.hint)


async def test_large_values_elsewhere(elsewhere, running):
    """On other brokers, with a store beside them."""

    @elsewhere.activity
    def measure(doc: str, book: str) -> int:
        return len(doc) + len(book)

    async with running(elsewhere):
        workflow = await elsewhere.dispatch(measure.step(doc="d" * LARGE), variables={"book": "b" * 100_000})
        assert await workflow.result(60) == LARGE + 100_000

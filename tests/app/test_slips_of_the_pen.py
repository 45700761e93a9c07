"""Calls that would do nothing, or something else, say so at once."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from helpers import served, until_async

import paigeant
from paigeant import ActivitySpec, App, Worker, scatter, sleep
from paigeant.activity import Activity, AgentOptions
from paigeant.agents.activity import AgentActivity
from paigeant.errors import ConfigurationError, InvalidArguments, UnknownActivity


@pytest.fixture
def app(make_app: Callable[..., App]) -> App:
    made = make_app("memory://")

    @made.activity
    def report() -> str:
        return "r"

    return made


def test_a_schedule_is_not_named_after_an_activity_object(app):
    """It would declare nothing."""
    with pytest.raises(ConfigurationError, match="first argument is its name"):
        app.schedule(app.activities["report"], every=60)
    assert app.declared_schedules == {}


@pytest.mark.parametrize("what", ["concurrency", "prefetch"])
@pytest.mark.parametrize("number", [0, -1])
def test_a_worker_that_could_run_nothing_is_refused(app, what, number):
    """Zero does not mean the default."""
    with pytest.raises(ConfigurationError, match=f"{what} must be at least 1"):
        Worker(app, **{what: number})


def test_a_misspelt_activity_is_pointed_out(app):
    """It is sent all the same: another service may have it."""
    with structlog.testing.capture_logs() as logs:
        app.dispatch("reprot")
    assert [one["event"] for one in logs if one["log_level"] == "warning"] == [
        "this App has no activity 'reprot'; did you mean 'report'?"
    ]


def test_a_misspelt_activity_of_a_schedule_is_pointed_out_when_it_is_declared(app):
    """Not only when it is due. It is declared all the same: another service may have it."""
    with structlog.testing.capture_logs() as logs:
        app.schedule("hourly", "reprot", every=3600)
        app.schedule("daily", "report", "elsewhere", every=86_400)
    assert [one["event"] for one in logs if one["log_level"] == "warning"] == [
        "this App has no activity 'reprot'; did you mean 'report'?"
    ]
    assert sorted(app.declared_schedules) == ["daily", "hourly"]


def test_a_dispatch_that_nobody_awaited_is_pointed_out(app):
    """The loop ended before the broker had it."""

    async def main() -> None:
        app.dispatch("report")

    with pytest.warns(RuntimeWarning, match="never awaited"), structlog.testing.capture_logs() as logs:
        asyncio.run(main())
    assert any("a dispatch was cancelled before the broker had its message" in one["event"] for one in logs)


@pytest.mark.parametrize(
    ("option", "hint"), [("timout", "did you mean 'timeout'?"), ("colour", "there are: concurrency, ")]
)
def test_an_option_of_an_activity_that_does_not_exist_is_refused(app, option, hint):
    """With the one that was meant; as a decorator, for a function and for an agent."""

    class Writer:
        name = "writer"

        async def run(self) -> None: ...

    for decorate in (
        lambda: app.activity(**{option: 5}),
        lambda: app.activity(lambda: None, **{option: 5}),
        lambda: app.activity(Writer(), **{option: 5}),
    ):
        with pytest.raises(ConfigurationError, match=f"@app.activity has no option {option!r}") as caught:
            decorate()
        assert caught.value.hint.startswith(hint)
    assert list(app.activities) == ["report"]


def test_every_option_of_an_activity_is_known():
    """What is written for type checkers is what the classes take."""
    made = {*inspect.signature(Activity).parameters, *inspect.signature(AgentActivity).parameters}
    given = {"self", "function", "agent", "overrides", "namespace", "hooks", "options"}
    assert made - given == AgentOptions.__optional_keys__


# --- an activity is called instead of planned ----------------------------------------------------------------------


def test_what_an_async_activity_returned_is_not_a_step(app):
    """The error says what to write; nothing is dispatched."""

    @app.activity
    async def extract(url: str) -> str:
        return url

    with pytest.raises(InvalidArguments, match=r"extract\(...\) is a call, and the coroutine") as caught:
        app.dispatch(extract("x"), "report")
    assert caught.value.hint == "write extract.step(...) with the same arguments, by name"


def test_what_a_generator_activity_returned_is_not_a_step(app):
    """Plain and async ones."""

    @app.activity
    def words(text: str) -> Iterator[str]:
        yield from text.split()

    @app.activity
    async def lines(text: str) -> AsyncIterator[str]:
        yield text

    for given, name in ((words("a b"), "words"), (lines("a"), "lines")):
        with pytest.raises(InvalidArguments) as caught:
            app.dispatch(given)
        assert caught.value.hint == f"write {name}.step(...) with the same arguments, by name"
    with pytest.raises(InvalidArguments, match="a generator expression is not a step"):
        app.dispatch(app.activities[name] for name in ["report"])


@pytest.mark.parametrize("given", [{"a": 1}, None, 7, 1.5, object()])
def test_any_other_thing_that_is_no_step_is_refused(app, given):
    """The hint names ``.step(...)``."""
    with pytest.raises(InvalidArguments, match="is not a step") as caught:
        app.dispatch(given)
    assert "activity.step(...)" in caught.value.hint


@pytest.mark.parametrize("text", ["", "The title of it", "https://x.example/a", '{"a": 1}', "one\ntwo", "x" * 256])
@pytest.mark.parametrize("within", [lambda text: text, lambda text: [text]], ids=["alone", "in a list"])
def test_a_text_that_cannot_be_a_name_is_refused(app, text, within):
    """It is what an activity returned."""
    with pytest.raises(InvalidArguments, match="cannot be the name of an activity") as caught:
        app.dispatch(within(text), "report")
    assert "activity.step(...)" in caught.value.hint


def test_a_branch_that_cannot_be_named_is_refused(app):
    """Before anything is sent; names with blanks may be those of activities here."""
    with pytest.raises(InvalidArguments, match="cannot be the name of an activity"):
        scatter("", "report")


def test_an_unusual_name_of_an_own_activity_is_taken(app):
    """And that of another service's in an ActivitySpec."""
    app.activity(name="the report")(lambda: "r")
    app.dispatch("the report")
    app.dispatch(ActivitySpec(name="their report"))


def test_an_unknown_name_is_pointed_out_once(app):
    """With what to write if an activity was called; branches count, too."""
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            app.dispatch("title")
        app.dispatch(ActivitySpec(name="other"))
    told = [one["event"] for one in logs if one["log_level"] == "warning"]
    assert [("'title'" in text, "'other'" in text) for text in told] == [(True, False), (False, True)]
    assert all("write activity.step(...)" in text for text in told)


# --- activities that nobody has --------------------------------------------------------------------------------------


@pytest.fixture
def with_store(make_app: Callable[..., App], tmp_path: Path) -> Callable[..., App]:
    """Apps on one broker and store that must know the activities of a dispatch, unless something else is said."""

    def make(**options: Any) -> App:
        return make_app(f"sqlite:///{tmp_path / 'p.db'}", **{"unknown_activities": "refuse"} | options)

    return make


async def _is_announced(app: App) -> bool:
    assert app.store is not None
    return any(worker.offers for worker in await app.store.workers())


def test_a_strict_app_refuses_what_nobody_has(with_store):
    """Nothing is dispatched; a similar name is pointed out."""
    app = with_store()
    app.activity(name="report")(lambda: "r")
    for step in ("reprot", ActivitySpec(name="reprot"), scatter("reprot", "report")):
        with pytest.raises(UnknownActivity, match="has an activity 'reprot'") as caught:
            app.dispatch(step)
        assert caught.value.hint == "did you mean 'report'?"
    with pytest.raises(UnknownActivity) as caught:
        app.dispatch("archive")
    assert caught.value.hint == "start a worker that serves it, then dispatch"
    app.dispatch("report", scatter("report", sleep(1)))

    async def workflows() -> int:
        return len(await app.store.workflows())

    assert asyncio.run(workflows()) == 1


def test_a_strict_app_takes_what_a_live_worker_announces(with_store):
    """Under a running event loop, awaiting the workflow raises."""

    async def main() -> None:
        theirs, mine = with_store(), with_store()
        theirs.activity(name="archive")(lambda: "a")
        async with served(theirs):
            await until_async(lambda: _is_announced(theirs))
            await mine.dispatch("archive")
            elsewhere = with_store(queue_prefix="elsewhere")
            with pytest.raises(UnknownActivity, match="with the queue 'elsewhere") as caught:
                await elsewhere.dispatch("archive")
            assert f"queue={theirs.queue_of(theirs.activities['archive'])!r}" in caught.value.hint
        with pytest.raises(UnknownActivity):  # the worker has left
            await mine.dispatch("archive")

    asyncio.run(main())


def test_a_name_that_a_live_worker_announces_is_not_pointed_out(with_store):
    """Without being strict: the store is asked first."""

    async def main() -> None:
        theirs = with_store()
        theirs.activity(name="archive")(lambda: "a")
        async with served(theirs):
            await until_async(lambda: _is_announced(theirs))
            await with_store(unknown_activities="warn").dispatch("archive")

    with structlog.testing.capture_logs() as logs:
        asyncio.run(main())
    assert not [one for one in logs if "archive" in one["event"] and one["log_level"] == "warning"]


@pytest.mark.parametrize(("attitude", "trusted", "looks"), [("warn", 60, 1), ("warn", 0, 3), ("refuse", 60, 3)])
def test_all_workers_are_not_read_again_for_every_dispatch(with_store, monkeypatch, attitude, trusted, looks):
    """An App that only warns trusts what it has read for some seconds; a strict one reads each time."""
    monkeypatch.setattr("paigeant.dispatch.strangers._TRUSTED_FOR", trusted)

    async def main() -> int:
        theirs, mine = with_store(), with_store(unknown_activities=attitude)
        theirs.activity(name="archive")(lambda: "a")
        async with served(theirs):
            await until_async(lambda: _is_announced(theirs))
            workers, read = mine.store.workers, []

            async def counted() -> Any:
                read.append(None)
                return await workers()

            monkeypatch.setattr(mine.store, "workers", counted)
            for _ in range(3):
                await mine.dispatch("archive")
            return len(read)

    assert asyncio.run(main()) == looks


def test_unknown_names_may_be_allowed(app, make_app):
    """Then nothing is looked up and nothing is said."""
    silent = make_app("memory://", unknown_activities="allow")
    silent.activity(name="report")(lambda: "r")
    with structlog.testing.capture_logs() as logs:
        silent.dispatch("reprot", "archive")
    assert not [one for one in logs if one["log_level"] == "warning"]


# --- habits of other libraries -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("look", "instead"),
    [
        (lambda app: app.activities["report"].delay("x"), "app.dispatch(report.step(...)) dispatches a workflow"),
        (lambda app: app.activities["report"].apply_async(["x"]), "app.dispatch(report.step(...))"),
        (lambda app: app.activities["report"].s("x"), "report.step(...) is one step of a workflow"),
        (lambda app: app.activities["report"].send("x"), "app.dispatch(report.step(...))"),
        (lambda app: app.task, "@app.activity"),
        (lambda app: app.send_task("report"), 'app.dispatch("name")'),
        (lambda _: paigeant.chain, "app.dispatch(first.step(...), second) runs steps one after the other"),
        (lambda _: paigeant.group, "scatter("),
        (lambda _: paigeant.Celery, "App is what holds activities"),
    ],
)
def test_a_habit_of_another_library_says_what_to_write(app, look, instead):
    """As an AttributeError, so that hasattr() is false."""
    with pytest.raises(AttributeError) as caught:
        look(app)
    assert instead in str(caught.value)


def test_an_import_of_a_name_of_another_library_says_what_to_write():
    """Python's own text would not."""
    with pytest.raises(ImportError, match=r"app.dispatch\(first.step\(...\), second\) runs steps one after the other"):
        from paigeant import chain  # noqa: F401
    with pytest.raises(ImportError, match="cannot import name 'Wroker'"):
        from paigeant import Wroker  # noqa: F401
    from paigeant import errors  # noqa: F401 - a module, and no name of the package


def test_other_attributes_are_missing_as_ever(app):
    """Python's own text, and no trouble for copies and pickles of classes."""
    report = app.activities["report"]
    for thing, name in ((app, "dispach"), (report, "stepp"), (paigeant, "Wroker")):
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'$"):
            getattr(thing, name)
    assert not hasattr(report, "delay")
    assert not hasattr(app, "task")
    assert copy.copy(report).name == "report"


def test_an_error_inside_a_property_is_not_hidden(app):
    """What reading a signature raises is what is seen."""

    class Odd(Activity):
        @property
        def strange(self) -> str:
            raise AttributeError("deep inside")

    with pytest.raises(AttributeError, match="deep inside"):
        _ = Odd(lambda: None, name="odd").strange


# --- a dispatch that nobody awaits --------------------------------------------------------------------------------


def test_a_dispatch_that_nobody_awaits_is_a_warning(app):
    """At the line that dispatches, as a coroutine's is."""

    async def main() -> int:
        app.dispatch("report")
        line = inspect.currentframe().f_lineno - 1
        gc.collect()
        await asyncio.sleep(0)
        return line

    with pytest.warns(RuntimeWarning, match=r"was never awaited: write await app.dispatch\(...\)") as caught:
        line = asyncio.run(main())
    assert [(one.filename, one.lineno) for one in caught] == [(__file__, line)]


@pytest.mark.parametrize("use", ["await", "status", "gather"])
def test_a_dispatch_that_is_awaited_is_no_warning(with_store, use, recwarn):
    """Directly, or by what asks about the workflow."""

    async def main() -> None:
        app = with_store()
        app.activity(name="report")(lambda: "r")
        workflow = app.dispatch("report")
        match use:
            case "await":
                await workflow
            case "status":
                await workflow.status()
            case "gather":
                await asyncio.gather(workflow)
        del workflow
        gc.collect()

    asyncio.run(main())
    assert not [one for one in recwarn if "never awaited" in str(one.message)]


def test_a_dispatch_in_plain_code_is_no_warning(app, recwarn):
    """It is done when dispatch() returns."""
    app.dispatch("report")
    gc.collect()
    assert not [one for one in recwarn if "never awaited" in str(one.message)]

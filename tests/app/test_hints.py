"""What to do about a mistake stands in the traceback, not only on the command line."""

from __future__ import annotations

import asyncio
import inspect
import sys
import traceback
from typing import Any

import pytest
from pydantic_ai import Agent

from paigeant import ActivityContext, ActivityExecutor, App, PaigeantAgent, Worker, WorkflowDispatcher
from paigeant.errors import (
    ConfigurationError,
    DuplicateActivity,
    InvalidArguments,
    NotSerializable,
    PaigeantError,
    WorkflowTimeout,
)


def shown(error: PaigeantError) -> str:
    """The lines that Python prints below the traceback."""
    text = "".join(traceback.format_exception(error))
    assert error.hint is not None
    assert text.count(f"hint: {error.hint}") == 1
    return text


def test_a_broker_without_its_client_names_the_extra(monkeypatch):
    """``pip install`` is what helps."""
    monkeypatch.setitem(sys.modules, "redis", None)
    app = App("hints", "redis://localhost", "none", durability="best_effort")
    with pytest.raises(ConfigurationError) as caught:
        app.transport  # noqa: B018 - making it is what fails
    assert 'pip install "paigeant[redis]"' in shown(caught.value)


def test_a_misspelt_argument_names_the_one_that_was_meant(make_app):
    """One letter too many."""
    app = make_app("memory://")

    @app.activity
    def extract(url: str) -> str:
        return url

    with pytest.raises(InvalidArguments) as caught:
        extract.step(urll="x")
    assert "did you mean 'url'?" in shown(caught.value)


def test_result_sync_in_async_code_says_what_to_await(make_app):
    """A running loop cannot be entered again."""
    app = make_app("memory://")

    @app.activity
    def extract() -> str:
        return "x"

    async def main() -> None:
        (await app.dispatch(extract)).result_sync()

    with pytest.raises(ConfigurationError) as caught:
        asyncio.run(main())
    assert "await workflow.result()" in shown(caught.value)


def test_a_result_that_does_not_come_asks_for_a_worker(make_app):
    """Nothing serves the step."""
    app = make_app("memory://")

    @app.activity
    def extract() -> str:
        return "x"

    with pytest.raises(WorkflowTimeout) as caught:
        app.dispatch(extract).result_sync(timeout=0.01)
    assert "start a worker that serves the step" in shown(caught.value)


def test_an_argument_that_is_no_json_names_depends(make_app):
    """What cannot travel is made on the worker; pydantic's own traceback says no more and is left out."""
    app = make_app("memory://")

    class Database:
        pass

    @app.activity
    def enrich(db: Any) -> str:
        return "x"

    with pytest.raises(NotSerializable, match=r"enrich\.db cannot be written as JSON: it is a Database") as caught:
        enrich.step(db=Database())
    text = shown(caught.value)
    assert "a provider: Depends(...)" in text
    assert text.count("Traceback") == 1


def test_a_value_that_json_cannot_write_does_not_name_depends(make_app):
    """A text is no client."""
    app = make_app("memory://")

    @app.activity
    def enrich(text: Any) -> str:
        return "x"

    with pytest.raises(NotSerializable) as caught:
        enrich.step(text="\ud800")
    assert "Depends" not in shown(caught.value)


def test_a_second_activity_of_a_name_says_where_the_first_is(make_app):
    """File and line of the function; of an agent, of the line that makes it an activity."""
    app = make_app("memory://")
    line = inspect.currentframe().f_lineno

    @app.activity
    def report() -> str:
        return "x"

    app.activity(name="named")(lambda: "x")
    app.activity(Agent("test", name="writer"))

    for name, at in (("report", 2), ("named", 6), ("writer", 7)):
        with pytest.raises(DuplicateActivity, match=f"already has an activity '{name}', at ") as caught:
            app.activity(name=name)(lambda: "y")
        assert str(caught.value).endswith(f"test_hints.py:{line + at}")
        assert "pass name=... to this one" in shown(caught.value)


def test_where_an_activity_is_reads_from_the_working_directory(make_app, tmp_path):
    """As the command line shows it."""
    source = "@app.activity\ndef a(): ..."
    namespace = {"app": make_app("memory://")}
    exec(compile(source, str(tmp_path / "tasks.py"), "exec"), namespace)
    with pytest.raises(DuplicateActivity, match=r"already has an activity .a., at tasks\.py:1"):
        exec(compile(source, str(tmp_path / "tasks.py"), "exec"), namespace)


def test_an_agent_of_a_dispatcher_is_where_it_was_made():
    """Not in paigeant, which makes it an activity."""
    dispatcher = WorkflowDispatcher("memory://")
    line = inspect.currentframe().f_lineno
    PaigeantAgent("test", dispatcher=dispatcher, name="writer")
    with pytest.raises(DuplicateActivity) as caught:
        PaigeantAgent("test", dispatcher=dispatcher, name="writer")
    assert str(caught.value).endswith(f"test_hints.py:{line + 1}")


@pytest.mark.parametrize(
    ("look", "meant"),
    [
        (lambda app: Worker(app, only=["reprot"]), "report"),
        (lambda app: ActivityExecutor("memory://", "reprot", app), "report"),
        (lambda app: app.activities["report"].step().options(timout=1), "timeout"),
    ],
    ids=["worker", "executor", "option"],
)
def test_a_name_that_is_looked_up_is_compared_with_those_that_are_there(make_app, look, meant):
    """Wherever an error names what is not there."""
    app = make_app("memory://")
    app.activity(name="report")(lambda: "x")
    with pytest.raises(ConfigurationError) as caught:
        look(app)
    assert f"did you mean {meant!r}?" in shown(caught.value)


def test_a_step_to_skip_is_compared_with_those_ahead(make_app):
    """The step that skips fails with the name that was meant."""
    app = make_app("memory://", store="none")

    @app.activity
    def choose(ctx: ActivityContext) -> None:
        with pytest.raises(KeyError, match=r"no step 'reprot' ahead; .*did you mean 'report'") as caught:
            ctx.skip("reprot")
        said.append(str(caught.value))

    said: list[str] = []
    app.activity(name="report")(lambda: "x")

    async def main() -> None:
        await app.dispatch(choose, "report")
        await Worker(app, burst=True).run()

    asyncio.run(main())
    assert len(said) == 1

"""Sending workflows on their way, and what is refused before anything is sent."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import date

import pytest

from paigeant import App
from paigeant.errors import (
    ConfigurationError,
    InvalidArguments,
    MessageTooLarge,
    NotSerializable,
    PaigeantError,
)
from paigeant.wire.slip import ActivitySpec, RoutingSlip

SOON = 20


@pytest.fixture
def app(make_app, broker):
    """With activities of every sort."""
    made = make_app(broker)

    @made.activity
    async def validate(email: str, strict: bool = False) -> str:
        return email

    @made.activity
    def age(born: date) -> int:
        return born.year

    @made.activity
    async def nothing() -> str:
        return "fine"

    return made


def depths(app: App) -> dict[str, int]:
    return asyncio.run(_depths(app))


async def _depths(app):
    return dict(await app.transport.queues())


# --- in plain code ---------------------------------------------------------------------------------------------------


def test_in_plain_code_the_message_is_on_the_broker_when_dispatch_returns(app, prefix):
    """No loop, no await."""
    workflow = app.dispatch(app.activities["validate"].step(email="a@b.c"))
    assert workflow.correlation_id
    assert depths(app) == {f"{prefix}.validate": 1}


def test_in_plain_code_the_result_is_waited_for_without_await(make_app, tmp_path, running):
    """While a worker serves elsewhere."""
    url = f"sqlite:///{tmp_path / 'paigeant.db'}"
    service, client = make_app(url), make_app(url)

    @service.activity
    async def double(n: int) -> int:
        return n * 2

    async def serve_while(call):
        async with running(service):
            return await asyncio.to_thread(call)

    def program():
        return client.dispatch(ActivitySpec(name="double", arguments={"n": 4})).result_sync(timeout=SOON)

    assert asyncio.run(serve_while(program)) == 8


PROGRAM = """
from paigeant import App
app = App("plain", unknown_activities="allow")
workflow = app.dispatch("elsewhere")
print(workflow)
"""


def test_a_plain_program_may_simply_end_after_dispatch(make_app, tmp_path):
    """No close, no loop: what was dispatched is there, and no thread keeps the program alive."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    app = make_app(f"sqlite:///{tmp_path / 'paigeant.db'}")
    assert depths(app) == {"plain.elsewhere": 1}
    assert asyncio.run(app.store.find(done.stdout.strip())) == [done.stdout.strip()]


def test_a_dispatch_from_many_threads_is_one_each(app, prefix):
    """An App may be shared, as a web server with threads does."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(lambda n: str(app.dispatch("elsewhere")), range(40)))
    assert len(ids) == 40
    assert depths(app) == {f"{prefix}.elsewhere": 40}


# --- under a loop ----------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_awaiting_a_dispatch_is_certainty(app, prefix):
    """The broker has it."""
    await app.dispatch("validate", variables={"email": "a@b.c"})
    assert await _depths(app) == {f"{prefix}.validate": 1}


@pytest.mark.anyio
async def test_a_dispatch_that_is_not_awaited_goes_too(app, running):
    """It is only not yet certain; the handle can be awaited at any time."""
    async with running(app):
        workflow = app.dispatch("nothing")
        assert await workflow.result(SOON) == "fine"
        assert await workflow is workflow


# --- refused ---------------------------------------------------------------------------------------------------------


def _of_small_values(app: App) -> App:
    app.settings = app.settings.model_copy(update={"value_limit": 100_000})
    return app


REFUSED = {
    "nothing": (lambda app: app.dispatch(), InvalidArguments, "no step to dispatch"),
    "an empty list": (lambda app: app.dispatch([]), InvalidArguments, "no step to dispatch"),
    "an empty slip": (lambda app: app.dispatch(RoutingSlip()), InvalidArguments, "no step to dispatch"),
    "a nameless step": (lambda app: app.dispatch(""), InvalidArguments, "cannot be the name of an activity"),
    "no step": (lambda app: app.dispatch(5), InvalidArguments, "5 is not a step"),
    "a function": (lambda app: app.dispatch(print), InvalidArguments, "is not a step"),
    "a slip among steps": (lambda app: app.dispatch("a", RoutingSlip()), InvalidArguments, "dispatched alone"),
    "an argument missing": (lambda app: app.dispatch("validate"), InvalidArguments, "'validate' needs 'email'"),
    "an unknown argument": (
        lambda app: app.dispatch(ActivitySpec(name="validate", arguments={"email": "x", "mail": 1})),
        InvalidArguments,
        "takes no argument 'mail'",
    ),
    "an unknown argument further on": (
        lambda app: app.dispatch("elsewhere", ActivitySpec(name="validate", arguments={"mail": 1})),
        InvalidArguments,
        "takes no argument 'mail'",
    ),
    "a wrong argument": (
        lambda app: app.dispatch(app.activities["age"].step(born="soon")),
        InvalidArguments,
        "activity 'age', argument 'born'",
    ),
    "a wrong argument in a spec": (
        lambda app: app.dispatch("elsewhere", ActivitySpec(name="age", arguments={"born": "soon"})),
        InvalidArguments,
        "activity 'age', argument 'born'",
    ),
    "a wrong variable for the first step": (
        lambda app: app.dispatch("age", variables={"born": "soon"}),
        InvalidArguments,
        "activity 'age', argument 'born'",
    ),
    "an unserialisable argument": (
        lambda app: app.dispatch(ActivitySpec(name="elsewhere", arguments={"a": {"b": object()}})),
        NotSerializable,
        r"arguments\['a'\]\['b'\] cannot",
    ),
    "an unserialisable variable": (
        lambda app: app.dispatch("nothing", variables={"a": {"b": object()}}),
        NotSerializable,
        r"variables\['a'\]\['b'\] cannot",
    ),
    "an unserialisable variable beside a slip": (
        lambda app: app.dispatch(RoutingSlip(itinerary=(ActivitySpec(name="nothing"),)), variables={"a": object()}),
        NotSerializable,
        r"variables\['a'\] cannot",
    ),
    "a lone surrogate": (
        lambda app: app.dispatch("nothing", variables={"a": "\ud800"}),
        NotSerializable,
        "lone surrogate",
    ),
    "an id with a NUL": (
        lambda app: app.dispatch("nothing", id="a\x00"),
        InvalidArguments,
        r"the id of a workflow is .a\\x00.: it contains U\+0000",
    ),
    "too large": (
        lambda app: _of_small_values(app).dispatch("nothing", variables={"a": "x" * 200_000}),
        MessageTooLarge,
        r"variables\['a'\] is 200,002 bytes",
    ),
}


@pytest.mark.parametrize(("dispatch", "error", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_run_is_refused_before_anything_is_sent(app, dispatch, error, words):
    """At the line that is wrong, in one sentence."""
    with pytest.raises(error, match=words) as caught:
        dispatch(app)
    assert "\n" not in str(caught.value)
    assert "transport" not in app.__dict__ or depths(app) == {}


@pytest.mark.anyio
async def test_a_refusal_comes_at_once_under_a_loop_too(app):
    """Not only when the handle is awaited."""
    with pytest.raises(InvalidArguments):
        app.dispatch("validate")


def test_a_broker_that_nobody_knows_is_told_at_once(make_app):
    """Not only when something is dispatched."""
    with pytest.raises(ConfigurationError, match="unknown broker"):
        make_app("localhost")


def test_a_broker_that_cannot_be_used_is_told(make_app):
    """When something is dispatched."""
    app = make_app("sqlite:////no/such/folder/x.db")
    with pytest.raises(PaigeantError, match="unable to open"):
        app.dispatch("nothing")


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("options", "queue"),
    [({}, "work"), ({"queue": "slow"}, "slow"), ({"name": "n"}, "n"), ({"name": "n", "queue": "slow"}, "slow")],
    ids=str,
)
async def test_an_activity_has_a_queue_of_its_own_or_the_one_it_names(app, prefix, options, queue):
    """After the App's prefix."""

    @app.activity(**options)
    async def work() -> None: ...

    await app.dispatch(work)
    assert await _depths(app) == {f"{prefix}.{queue}": 1}


@pytest.mark.anyio
async def test_a_step_may_name_any_queue(app):
    """The whole name of another service's queue."""
    await app.dispatch(ActivitySpec(name="work", queue=f"{app.prefix}-other.work"))
    assert await _depths(app) == {f"{app.prefix}-other.work": 1}

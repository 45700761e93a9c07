"""Names and ids with characters that nobody sees: refused wherever people write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import until_async

from paigeant import ActivityContext, App, await_signal
from paigeant.errors import ConfigurationError, WorkflowFailed
from paigeant.transport import Outgoing
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec, RoutingSlip

pytestmark = pytest.mark.anyio

ODD = "wo\u200brk"
SOON = 20


@pytest.fixture
def app(make_app: Callable[..., App], tmp_path: Path) -> App:
    made = make_app(f"sqlite:///{tmp_path / 'paigeant.db'}")
    made.activity(lambda: 1, name="work")
    return made


def _schedule(app: App) -> object:
    return app.schedule(ODD, "work", every=60)


PLACES: dict[str, Callable[[App], object]] = {
    "id": lambda app: app.dispatch("work", id=ODD),
    "name": lambda app: app.dispatch("work", name=ODD),
    "activity": lambda app: app.dispatch(ActivitySpec(name=ODD)),
    "step": lambda app: app.dispatch(ActivitySpec(name="work", id=ODD)),
    "queue": lambda app: app.dispatch(ActivitySpec(name="work", queue=ODD)),
    "step in a slip": lambda app: app.dispatch(RoutingSlip(itinerary=(ActivitySpec(name="work", id=ODD),))),
    "otherwise": lambda app: app.dispatch(ActivitySpec(name="work").options(otherwise=[ActivitySpec(name=ODD)])),
    "registered activity": lambda app: app.activity(name=ODD)(lambda: 1),
    "registered queue": lambda app: app.activity(name="other", queue=ODD)(lambda: 1),
    "lock": lambda app: app.activity(name="other", lock=ODD)(lambda: 1),
    "schedule": _schedule,
    "signal": lambda app: await_signal(ODD),
    "App": lambda app: App(ODD, app.settings.broker_url),
    "queue_prefix": lambda app: App("shop", app.settings.broker_url, queue_prefix=ODD),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
async def test_it_is_refused_where_it_is_written(app, place):
    """The error names the character."""
    with pytest.raises(ConfigurationError, match=r"U\+200B"):
        place(app)
    assert not await app.store.workflows(limit=10)


async def test_a_signal_of_such_a_name_is_refused(app):
    """No step can wait for it."""
    workflow = await app.dispatch("work")
    with pytest.raises(ConfigurationError, match=r"the name of a signal is .*U\+200B"):
        await workflow.signal(ODD)


@pytest.mark.parametrize("options", [{"name": ODD}, {"key": ODD}])
async def test_a_step_cannot_write_one_either(app, running, options):
    """It fails, and says why."""

    @app.activity
    def parent(ctx: ActivityContext) -> None:
        ctx.dispatch("work", **options)

    async with running(app):
        with pytest.raises(WorkflowFailed, match=r"U\+200B"):
            await (await app.dispatch(parent)).result(SOON)


async def test_ordinary_names_are_allowed_in_every_script(app, running):
    """Letters with marks, too."""
    async with running(app):
        assert await (await app.dispatch("work", name="Bestellung für Ωβδ", id="注文-1")).result(SOON) == 1


async def test_a_workflow_of_an_earlier_release_goes_on(app, running, prefix):
    """With its branches and its children, whose names derive from its name."""

    @app.activity
    def parent(ctx: ActivityContext) -> str:
        return ctx.dispatch("work")

    message = PaigeantMessage(
        correlation_id=ODD,
        name=ODD,
        routing_slip=RoutingSlip(itinerary=(ActivitySpec(name="parent", id=ODD), ActivitySpec(name="work"))),
    )
    queue = f"{prefix}.parent"
    await app.transport.declare(queue)
    async with running(app):
        await app.transport.send([Outgoing(queue=queue, body=message.to_json(), id=message.id)])
        await until_async(lambda: app.store.workflow(ODD))
        assert await app.workflow(ODD).result(SOON) == 1

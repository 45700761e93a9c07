"""Priorities: heeded by the broker, or refused."""

from __future__ import annotations

import pytest

from paigeant.errors import ConfigurationError
from paigeant.transport import Durability, Features
from paigeant.worker.caveats import caveats

pytestmark = pytest.mark.anyio

SOON = 60


@pytest.mark.parametrize("where", ["sqlite", "redis"])
async def test_what_is_urgent_goes_first(make_app, running, request, tmp_path, where):
    """Among equals, what came first."""
    database = f"sqlite:///{tmp_path / 'paigeant.db'}"
    app, order = make_app(database if where == "sqlite" else request.getfixturevalue("redis_url"), database), []

    @app.activity
    async def work(n: int) -> None:
        order.append(n)

    steps = [work.step(n=n).options(priority=priority) for n, priority in enumerate([0, 0, 5, 9, 5])]
    workflows = [await app.dispatch(step) for step in steps]
    async with running(app, concurrency=1):
        for one in workflows:
            await one.result(SOON)
    assert order == [3, 2, 4, 0, 1]


def test_a_broker_that_takes_no_heed_refuses(make_app):
    """At dispatch, without a connection; a step without a priority is as it was."""
    app = make_app("amqp://127.0.0.1:1", "none")

    @app.activity(priority=5)
    def work() -> None: ...

    with pytest.raises(ConfigurationError, match="step 'work' has priority 5, and this broker"):
        app.dispatch(work)


@pytest.mark.parametrize(
    ("features", "says"),
    [
        (Features(durability=Durability.AT_LEAST_ONCE), ["ignores the priority of 'work'"]),
        (Features(durability=Durability.AT_LEAST_ONCE, priority=True), []),
        (Features(durability=Durability.VOLATILE), []),
    ],
)
def test_a_worker_says_so_when_it_starts(make_app, features, says):
    """For others may dispatch its activity."""
    app = make_app("memory://", "none")

    @app.activity(priority=5)
    def work() -> None: ...

    class Transport:
        pass

    transport = Transport()
    transport.features = features
    found = caveats(transport, app.activities.values())
    assert len(found) == len(says)
    assert all(text in one for text, one in zip(says, found, strict=True))

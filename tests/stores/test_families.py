"""A workflow with more others under it than one statement of a database can name."""

from __future__ import annotations

import pytest
from stores.builders import dispatched

from paigeant.events import Cancellation
from paigeant.records.workflow import Status

pytestmark = [pytest.mark.anyio, pytest.mark.endurance]

_MANY = 66_000
"""PostgreSQL's driver takes 65,535 values in one statement, SQLite 32,766."""


async def test_a_large_family_is_paused_resumed_and_cancelled(store):
    """All of it, in one transaction."""
    await store.record([dispatched("root")])
    for first in range(0, _MANY, 1000):
        await store.record([dispatched(f"w{index}", parent="root") for index in range(first, first + 1000)])
    counts = [len(found.recorded) for found in (await store.pause("root", None), await store.resume("root", None))]
    counts.append(len((await store.cancel("root", Cancellation(at=1.0))).recorded))
    assert counts == [_MANY + 1] * 3
    assert (await store.workflow(f"w{_MANY - 1}")).status is Status.CANCELLED

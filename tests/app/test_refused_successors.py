"""The broker refuses what follows a step: the step's message is set aside with the reason, and nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers import served, until_async
from kombu import Connection

from paigeant import App
from paigeant.dispatch import settling

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("has_store", [True, False])
async def test_a_step_whose_successor_is_refused_becomes_a_dead_letter(
    rabbitmq_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_store: bool
) -> None:
    """With RabbitMQ's own words. Its body ran once, and a step beside it is not disturbed."""
    monkeypatch.setattr(settling, "_REJECTED_PAUSES", (0.05, 0.1))
    app = App(prefix, broker=rabbitmq_url, store=f"sqlite:///{tmp_path}/store.db" if has_store else "none")
    starts: list[int] = []
    gate = asyncio.Event()

    @app.activity
    async def first(n: int) -> int:
        starts.append(n)
        return n

    @app.activity
    async def beside() -> str:
        starts.append(-1)
        await gate.wait()
        return "done"

    @app.activity
    async def second(n: int) -> int:
        return n

    with Connection(rabbitmq_url) as connection:
        arguments = {"x-max-length": 5}
        connection.channel().queue_declare(app.queue_of(second), durable=True, auto_delete=False, arguments=arguments)
    async with served(app, only=["first", "beside"]):
        await app.dispatch(beside)
        await app.dispatch(first.step(n=1), second)

        async def letters() -> Sequence[Any]:
            return await app.dead_letters.list()

        [letter] = await until_async(letters, 40)
        gate.set()
        assert "PRECONDITION_FAILED - inequivalent arg 'x-max-length'" in letter.reason
        assert letter.activity == "first"
        assert sorted(starts) == [-1, 1]
    await app.close()

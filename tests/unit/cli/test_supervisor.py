"""The supervisor of worker processes when the machine has no processes to spare."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from paigeant.cli import supervisor
from paigeant.cli.supervisor import Process, Supervisor

pytestmark = pytest.mark.anyio


class Ended:
    """A process that has done its work."""

    outdated, was_ready, started_at, pid = False, True, 0.0, 1

    async def ended(self, ready: object) -> int:
        return 0


async def test_a_process_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go on meanwhile: EAGAIN and ENOMEM pass."""
    monkeypatch.setattr(supervisor, "SHORTEST_PAUSE", 0.01)
    tries = iter([BlockingIOError(errno.EAGAIN, "no more processes"), OSError(errno.ENOMEM, "no memory"), None])

    async def start(command: Sequence[str]) -> object:
        if (error := next(tries)) is not None:
            raise error

        return Ended()

    monkeypatch.setattr(Process, "start", start)
    with capture_logs() as logs:
        fleet = Supervisor(command=["x"], processes=1, shutdown_timeout=1, burst=True)
        code = await asyncio.wait_for(fleet._keep(0), 5)

    assert code is None
    assert [one["event"] for one in logs] == ["could not start a worker process, retrying"] * 2

"""Connections to PostgreSQL that do not wait for ever.

``tcp_user_timeout`` and keepalives notice a server that is gone. Behind a proxy or a balancer that takes what is sent
and passes nothing on, the connection looks well, and psycopg waits for an answer without end.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import psycopg


def connect(answer_within: float, arguments: tuple[Any, ...], options: dict[str, Any]) -> psycopg.Connection[Any]:
    """A connection on which a statement that was not answered within these seconds is an ``OperationalError``."""

    class Impatient(psycopg.Connection[Any]):
        def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().wait(_bounded(gen, answer_within), *args, **kwargs)
            except _Silence:
                self.pgconn.finish()  # it is of no use any more, and whoever asks is told so
                raise

    return Impatient.connect(*arguments, **options)


class _Silence(psycopg.OperationalError):
    """The server said nothing."""


def _bounded(steps: Generator[Any, Any, Any], seconds: float) -> Generator[Any, Any, Any]:
    """psycopg's steps of a conversation, which are resumed every tenth of a second, until the time is over."""
    give_up = time.monotonic() + seconds
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > give_up:
                raise _Silence(f"no answer for {seconds:g} s: is the server reachable?")
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value

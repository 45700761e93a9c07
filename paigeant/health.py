"""Whether a worker lives and reaches its broker, told to whoever asks by HTTP: ``GET /live`` and ``GET /ready``.

The worker asks its broker one small question over and over, through the same thread and connection as its steps.
Nothing secret is told, and nothing can be changed; still the address is the machine's own unless another is named.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from paigeant.errors import ConfigurationError, PaigeantError
from paigeant.transport import BaseTransport

LONGEST_SILENCE = 120.0
"""Seconds in which the transport's thread must answer, be it by an error: its slowest limits stay below."""

_MOST_CONNECTIONS = 32
_LONGEST_REQUEST = 8192
_SLOWEST_REQUEST = 5.0


@dataclass(frozen=True, slots=True)
class Report:
    """An answer: yes or no, with what it goes by. A no has a reason."""

    reason: str | None
    facts: dict[str, Any]

    @property
    def is_good(self) -> bool:
        return self.reason is None


class Health:
    """What is known of one worker. ``patience``: seconds for which a round trip with the broker proves anything."""

    def __init__(self, patience: float = 15.0) -> None:
        self.patience = patience
        self._is_stopping = False
        self._reached_at: float | None = None
        self._answered_at = time.monotonic()
        self._trouble: str | None = None

    async def watch(self, transport: BaseTransport, queue: str) -> None:
        """Ask the broker how much waits in the queue, over and over; being cancelled means that the worker stops."""
        try:
            while True:
                await self._ask(transport, queue)
                await asyncio.sleep(self.patience / 3)
        finally:
            self._is_stopping = True

    async def _ask(self, transport: BaseTransport, queue: str) -> None:
        try:
            await transport.depth(queue)
        except PaigeantError as error:
            self._trouble = str(error)
        else:
            self._trouble, self._reached_at = None, time.monotonic()
        self._answered_at = time.monotonic()

    def live(self, now: float) -> Report:
        """Whether the event loop turns, which it does if it comes here, and the transport's thread as well."""
        silent = now - self._answered_at
        is_stuck = silent > LONGEST_SILENCE and not self._is_stopping
        return Report("the transport's thread does not answer" if is_stuck else None, {})

    def ready(self, now: float) -> Report:
        """Whether the broker was reached lately and the worker takes messages."""
        if self._reached_at is None:
            return Report(self._trouble or "starting: the broker was not reached so far", {})
        age = now - self._reached_at
        facts = {"last_round_trip": round(age, 3)}
        if self._is_stopping:
            return Report("stopping", facts)
        if age > self.patience:
            return Report(self._trouble or f"the broker has not answered for {age:.1f} s", facts)
        return Report(None, facts)


@asynccontextmanager
async def served(health: Health, host: str, port: int) -> AsyncIterator[None]:
    """Answer on this address until the context ends.

    Raises:
        ConfigurationError: the address is taken or not this machine's.
    """
    answering = _Answering(health)
    try:
        server = await asyncio.start_server(answering.answer, host, port, limit=_LONGEST_REQUEST)
    except OSError as error:
        raise ConfigurationError(
            f"the worker's health cannot be told on {host}:{port}: {error.strerror or error}",
            hint="does another process listen there? --health-port takes another port",
        ) from error
    try:
        yield
    finally:
        server.close()


class _Answering:
    """As much of HTTP/1.1 as a probe needs: one request, one answer, then the connection is closed."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._open = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _MOST_CONNECTIONS:
                async with asyncio.timeout(_SLOWEST_REQUEST):
                    writer.write(self._response(await _head(reader)))
                    await writer.drain()
        except (OSError, EOFError):  # a timeout is an OSError; whoever asked has gone or is too slow
            pass
        finally:
            self._open -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _response(self, head: bytes | None) -> bytes:
        if head is None:
            return _written(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, {"status": "refused"})
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _written(HTTPStatus.BAD_REQUEST, {"status": "refused"})
        method, target, _ = words
        ask = {b"/live": self._health.live, b"/ready": self._health.ready}.get(target.partition(b"?")[0])
        if ask is None:
            return _written(HTTPStatus.NOT_FOUND, {"status": "refused", "reason": "ask for /live or /ready"})
        if method not in (b"GET", b"HEAD"):
            return _written(HTTPStatus.METHOD_NOT_ALLOWED, {"status": "refused", "reason": "only GET and HEAD"})
        report = ask(time.monotonic())
        status = HTTPStatus.OK if report.is_good else HTTPStatus.SERVICE_UNAVAILABLE
        said = {"status": "ok"} if report.is_good else {"status": "failed", "reason": report.reason}
        return _written(status, said | report.facts, with_body=method == b"GET")


async def _head(reader: asyncio.StreamReader) -> bytes | None:
    """A request as far as it matters; None when it is too long."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return None


def _written(status: HTTPStatus, content: dict[str, Any], *, with_body: bool = True) -> bytes:
    body = json.dumps(content, ensure_ascii=False).encode() + b"\n"
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    return "\r\n".join([*lines, "", ""]).encode() + (body if with_body else b"")

"""Serves the health of a worker by HTTP: ``GET /live`` and ``GET /ready``.

The worker periodically sends its broker a small request, through the same thread and connection as its steps. The
server returns no secrets and changes nothing; still it listens on the loopback address unless you set another host.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from paigeant.errors import ConfigurationError, PaigeantError
from paigeant.runtime.characters import escaped_json
from paigeant.transport import BaseTransport

LONGEST_SILENCE = 120.0
"""Seconds in which the transport's thread must answer, if only with an error. All its own timeouts are shorter."""

_MOST_CONNECTIONS = 32
_LONGEST_REQUEST = 8192
_SLOWEST_REQUEST = 5.0


@dataclass(frozen=True, slots=True)
class Report:
    """A health report: good or not, with the facts behind it. A report that is not good has a reason."""

    reason: str | None
    facts: dict[str, Any]

    @property
    def is_good(self) -> bool:
        return self.reason is None


class Health:
    """The health of one worker. ``patience``: seconds for which a broker's answer proves that it is reachable."""

    def __init__(self, patience: float = 15.0) -> None:
        self.patience = patience
        self.failing: Callable[[], Mapping[str, str]] = dict
        """Returns the background tasks that keep failing, each with its latest error."""
        self._is_serving = False
        self._is_stopping = False
        self._reached_at: float | None = None
        self._answered_at = time.monotonic()
        self._trouble: str | None = None

    async def watch(self, transport: BaseTransport, queue: str) -> None:
        """Ask the broker for the depth of the queue, periodically and for ever."""
        while True:
            await self._ask(transport, queue)
            await asyncio.sleep(self.patience / 3)

    def serving(self) -> None:
        """Record that the worker consumes."""
        self._is_serving = True

    def stopping(self) -> None:
        """Record that the worker receives no more messages."""
        self._is_stopping = True

    async def _ask(self, transport: BaseTransport, queue: str) -> None:
        try:
            await transport.ping(queue)
        except PaigeantError as error:
            self._trouble = str(error)
        else:
            self._trouble, self._reached_at = transport.trouble(), time.monotonic()
        self._answered_at = time.monotonic()

    def live(self, now: float) -> Report:
        """Whether the event loop runs, which this call proves, and the transport's thread answers."""
        silent = now - self._answered_at
        is_stuck = silent > LONGEST_SILENCE and not self._is_stopping
        return Report("the transport's thread does not answer" if is_stuck else None, {})

    def ready(self, now: float) -> Report:
        """Whether the broker answered recently, the worker consumes, and its background tasks run."""
        if self._reached_at is None:
            return Report(self._trouble or "starting: the worker has not reached the broker yet", {})
        age = now - self._reached_at
        return Report(self._obstacle(age), {"last_round_trip": round(age, 3)})

    def _obstacle(self, age: float) -> str | None:
        """Return why the worker is not ready, or None. ``age`` is the age of the last answer in seconds."""
        if self._is_stopping:
            return "stopping"
        if age > self.patience:
            return self._trouble or f"the broker has not answered for {age:.1f} s"
        if not self._is_serving:
            return "starting: the worker does not consume yet"
        if failing := self.failing():
            return "background tasks keep failing: " + ", ".join(f"{name} ({why})" for name, why in failing.items())
        return self._trouble


@asynccontextmanager
async def served(health: Health, host: str, port: int) -> AsyncIterator[None]:
    """Serve the health on this address until the context ends.

    Raises:
        ConfigurationError: the address is in use or does not belong to this machine.
    """
    answering = _Answering(health)
    try:
        server = await asyncio.start_server(answering.answer, host, port, limit=_LONGEST_REQUEST)
    except OSError as error:
        raise ConfigurationError(
            f"cannot serve the worker's health on {host}:{port}: {error.strerror or error}",
            hint="does another process listen there? choose another port with --health-port",
        ) from error
    try:
        yield
    finally:
        server.close()


class _Answering:
    """A minimal HTTP/1.1 server for probes: one request, one response, then it closes the connection."""

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
        except (OSError, EOFError):  # a timeout is an OSError; the client has gone or is too slow
            pass
        finally:
            self._open -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _response(self, head: bytes | None) -> bytes:
        if head is None:
            return _response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, {"status": "refused"})
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response(HTTPStatus.BAD_REQUEST, {"status": "refused"})
        method, target, _ = words
        ask = {b"/live": self._health.live, b"/ready": self._health.ready}.get(target.partition(b"?")[0])
        if ask is None:
            return _response(HTTPStatus.NOT_FOUND, {"status": "refused", "reason": "ask for /live or /ready"})
        if method not in (b"GET", b"HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, {"status": "refused", "reason": "only GET and HEAD"})
        report = ask(time.monotonic())
        status = HTTPStatus.OK if report.is_good else HTTPStatus.SERVICE_UNAVAILABLE
        said = {"status": "ok"} if report.is_good else {"status": "failed", "reason": report.reason}
        return _response(status, said | report.facts, with_body=method == b"GET")


async def _head(reader: asyncio.StreamReader) -> bytes | None:
    """Read the head of a request; None if it is too long."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return None


def _response(status: HTTPStatus, content: dict[str, Any], *, with_body: bool = True) -> bytes:
    body = escaped_json(json.dumps(content, ensure_ascii=False)).encode() + b"\n"
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

"""A TCP proxy between a worker and its broker or store that can be cut, stalled, half-opened and slowed down."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

from brokers.servers import free_port

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST


class Proxy:
    """Runs in a thread of its own, so that plain tests can use it."""

    def __init__(self, target: str) -> None:
        """``target`` is the broker's URL."""
        self._target = urlsplit(target)
        self.port = free_port()
        self.connections = 0
        self.rate: float | None = None
        """Bytes per second and direction of each connection; None: as fast as it can."""
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    @property
    def url(self) -> str:
        login, at, _ = self._target.netloc.rpartition("@")
        # urlunsplit drops an empty path's second slash, which is RabbitMQ's virtual host
        rest = urlunsplit(("", "", self._target.path, self._target.query, "")) or "/"
        return f"{self._target.scheme}://{login}{at}127.0.0.1:{self.port}{rest}"

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            far = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            writer.close()
            return
        link = _Link(self, (reader, writer), far)
        self._links.add(link)
        with suppress(asyncio.CancelledError):  # asyncio reports a handler that was cancelled as an error
            await link.run()
        self._links.discard(link)

    # --- trouble -------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Reset every connection, on both sides."""
        self._each(_Link.reset)

    def stall(self) -> None:
        """A black hole: what is sent over the connections there are arrives nowhere, and nobody hears of it."""
        self._each(_Link.stall)

    def half_open(self) -> None:
        """The broker sees its connections go, the worker does not."""
        self._each(_Link.half_open)

    def slow(self, rate: float | None) -> None:
        """Every connection, and those to come, carry so many bytes in a second; None ends this."""
        self.rate = rate

    def _each(self, trouble: object) -> None:
        async def all_of_them() -> None:
            for link in list(self._links):
                trouble(link)  # type: ignore[operator]

        asyncio.run_coroutine_threadsafe(all_of_them(), self._loop).result(10)

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            for link in list(self._links):
                link.reset()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One connection from a worker, and the one to the broker that belongs to it."""

    def __init__(self, proxy: Proxy, near: Stream, far: Stream) -> None:
        self.proxy = proxy
        self.near, self.far = near, far
        self.is_stalled = self.is_half_open = False

    async def run(self) -> None:
        pumps = [asyncio.ensure_future(self._pump(*ends)) for ends in ((self.near, self.far), (self.far, self.near))]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        if self.is_half_open:
            await asyncio.wait(pumps)  # the worker's side stays until the worker gives it up
        self.reset()
        await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, source: Stream, sink: Stream) -> None:
        with suppress(OSError):
            while data := await source[0].read(65536 if self.proxy.rate is None else 1024):
                if self.proxy.rate is not None:
                    await asyncio.sleep(len(data) / self.proxy.rate)
                if not self.is_stalled:
                    sink[1].write(data)
                    await sink[1].drain()

    def stall(self) -> None:
        self.is_stalled = True

    def half_open(self) -> None:
        self.is_stalled = self.is_half_open = True
        _reset(self.far[1])

    def reset(self) -> None:
        _reset(self.near[1])
        _reset(self.far[1])


def _reset(writer: asyncio.StreamWriter) -> None:
    if not writer.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()

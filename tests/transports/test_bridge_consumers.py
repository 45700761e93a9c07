"""Consumers of KombuTransport that begin, are closed or cancelled, also while the broker is away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from helpers import until
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs
from transports.bridges import names, pump_of, transport_at

from paigeant.errors import BrokerRefused, TransportError
from paigeant.testing.conformance.transports import Inbox, outgoing
from paigeant.testing.conformance.waiting import in_loop


class Outage:
    """Makes every exchange of a pump fail, as if the server were down, until the test ends the outage."""

    def __init__(self, pump: Any) -> None:
        self._pump, self._exchange = pump, pump.exchange
        self.tries = 0

        def fail(settlements: Any, limit: int) -> Any:
            self.tries += 1
            raise OperationalError("", {}, Exception("server closed the connection"), connection_invalidated=True)

        pump.exchange = fail

    def end(self) -> None:
        self._pump.exchange = self._exchange


@in_loop
async def test_a_consumer_that_begins_while_the_broker_is_away_waits_for_it(sqlite_url: str) -> None:
    """The worker must not exit because of it."""
    async with transport_at(sqlite_url) as transport, transport_at(sqlite_url) as another:
        await another.send(outgoing("q", "m"))
        outage = Outage(await pump_of(transport))
        async with Inbox(transport, ["q"]) as inbox:
            await asyncio.to_thread(until, lambda: outage.tries > 2)
            assert not inbox._task.done()
            assert "server closed" in transport.trouble()
            outage.end()
            assert names(await inbox.has(1)) == ["m"]
        assert transport.trouble() is None


@in_loop
async def test_a_consumer_that_is_closed_while_the_broker_is_away_does_not_come_back(sqlite_url: str) -> None:
    """It would claim messages that nobody reads. Closing it does not wait for the broker."""
    async with transport_at(sqlite_url, lease=600) as transport, transport_at(sqlite_url) as another:
        batches = transport.consume(["q"], 5)
        await another.send(outgoing("q", "first"))
        await transport.settle((await anext(batches))[0])
        outage = Outage(await pump_of(transport))
        await asyncio.to_thread(until, lambda: outage.tries > 2)
        await asyncio.wait_for(batches.aclose(), 10)
        outage.end()
        await transport.depth("q")
        await another.send(outgoing("q", "a", "b"))
        async with Inbox(another, ["q"]) as inbox:
            await inbox.has(2)


@in_loop
async def test_a_consumer_that_is_cancelled_as_it_begins_is_not_left_behind(sqlite_url: str) -> None:
    """The cancellation may come at any await."""
    async with transport_at(sqlite_url) as transport:
        for turns in range(6):
            beginning = asyncio.ensure_future(anext(transport.consume(["q"], 5)))
            for _ in range(turns):
                await asyncio.sleep(0)
            beginning.cancel()
            await asyncio.gather(beginning, return_exceptions=True)
        await asyncio.to_thread(until, lambda: transport._bridge is None or not transport._bridge._consumers)


@in_loop
async def test_what_a_closed_event_loop_had_goes_back(sqlite_url: str) -> None:
    """No code is left that could settle its deliveries or read the ones on their way."""
    async with transport_at(sqlite_url, lease=600) as transport, transport_at(sqlite_url) as another:
        await another.send(outgoing("q", *"abc"))
        loop = asyncio.new_event_loop()
        batches = transport.consume(["q"], 2)
        await asyncio.to_thread(loop.run_until_complete, anext(batches))
        loop.close()
        async with Inbox(another, ["q"]) as inbox:
            await inbox.has(3)
            assert {delivery.deliveries for delivery in inbox.got} == {1}
        with pytest.raises((RuntimeError, StopAsyncIteration, TransportError)):
            await anext(batches)


@in_loop
async def test_a_consumer_hears_that_its_transport_was_closed(sqlite_url: str) -> None:
    """Another worker in this process closed the transport; the consumer must not wait for ever."""
    async with transport_at(sqlite_url) as transport:
        waiting = asyncio.ensure_future(anext(transport.consume(["q"], 1)))
        await asyncio.to_thread(until, lambda: transport._bridge is not None and transport._bridge._consumers)
        await transport.close()
        with pytest.raises(TransportError, match="was closed"):
            await asyncio.wait_for(waiting, 10)


@in_loop
async def test_one_line_tells_of_an_outage_and_one_of_its_end(sqlite_url: str) -> None:
    """The number of reconnection attempts does not matter."""
    async with transport_at(sqlite_url) as transport, Inbox(transport, ["q"]):
        with capture_logs() as logs:
            outage = Outage(await pump_of(transport))
            await asyncio.to_thread(until, lambda: outage.tries > 4)
            outage.end()
            await transport.send(outgoing("q", "m"))
            await transport.depth("q")
        told = [one["event"] for one in logs if "broker" in one["event"]]
        assert told == ["broker unreachable, trying again", "the broker is back"]


@in_loop
async def test_a_fault_of_our_own_is_no_outage(sqlite_url: str) -> None:
    """The transport logs it with its traceback and keeps the connection."""
    async with transport_at(sqlite_url) as transport:
        with capture_logs() as logs, pytest.raises(BrokerRefused, match="a fault of paigeant: AttributeError"):
            await transport._call(lambda pump: pump.no_such_thing)
        assert [type(one["exc_info"]) for one in logs if "exc_info" in one] == [AttributeError]
        assert transport.trouble() is None


@in_loop
async def test_thousands_wait_without_slowing_each_other_down(sqlite_url: str) -> None:
    """The size of each exchange is bounded."""
    async with transport_at(sqlite_url) as transport:
        pump, sizes = await pump_of(transport), list[int]()
        exchange = pump.exchange

        def noted(settlements: Sequence[Any], limit: int) -> Any:
            sizes.append(len(settlements))
            return exchange(settlements, limit)

        pump.exchange = noted
        await asyncio.gather(*(transport.send(outgoing("q", str(n))) for n in range(3000)))
        assert max(sizes) <= 500
        assert await transport.depth("q") == 3000

"""RabbitMQ without memory: it takes no messages, and whoever holds deliveries keeps them."""

from __future__ import annotations

import asyncio
import time

import pytest
from brokers.servers import RabbitServer
from helpers import until_async
from structlog.testing import capture_logs

from paigeant.errors import TransportError
from paigeant.testing.conformance.transports import Inbox, outgoing
from paigeant.transports import new_transport
from paigeant.transports.kombu import KombuTransport
from paigeant.worker.health import Health

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_an_alarm_costs_no_delivery_and_no_message(own_rabbitmq: RabbitServer) -> None:
    """Settlements wait, acknowledgements go on, senders are refused with the reason, health says so; then all goes on.

    The alarm is longer than any time limit of the transport.
    """
    holder, other = new_transport(own_rabbitmq.url), new_transport(own_rabbitmq.url)
    impatient = KombuTransport(holder.url, holder.features, holder._new_connection, send_timeout=3.0)  # type: ignore[attr-defined]
    health = Health(patience=1.0)
    health.serving()
    async with Inbox(holder, ["q.held"]) as inbox:
        await holder.send(outgoing("q.held", "long", "plain", "waits"))
        long, plain, waits = await inbox.has(3)
        watching = asyncio.create_task(health.watch(holder, "q.held"))
        own_rabbitmq.alarm(True)
        with capture_logs() as logs:
            settling = asyncio.create_task(holder.settle(waits, outgoing("q.next", "n")))
            await until_async(lambda: _says(holder, "blocked publishing"), 20)
            with pytest.raises(TransportError, match="blocked publishing"):
                await impatient.send(outgoing("q.next", "refused"))
            await holder.settle(plain)
            await until_async(lambda: _unready(health, "blocked publishing"), 20)
            async with Inbox(other, ["q.held"]) as others:
                until = time.monotonic() + 15

                async def time_is_over() -> bool:
                    return time.monotonic() > until or bool(others.got)

                await until_async(time_is_over, 60)
                assert others.got == []
            assert not settling.done()
            own_rabbitmq.alarm(False)
            await asyncio.wait_for(settling, 30)
        await holder.settle(long)
        await until_async(lambda: _ready(health), 20)
        watching.cancel()
        assert not any(one.lease.lost for one in (long, plain, waits))
        assert [one["event"] for one in logs].count("RabbitMQ blocked publishing") == 2  # one of each sender
    async with Inbox(other, ["q.held", "q.next"]) as rest:
        assert "n" in [one.body.decode() for one in await rest.has(1)]
        assert {one.deliveries for one in rest.got} == {1}
        assert not {"long", "plain", "waits"} & set(rest.names)
    for transport in (holder, other, impatient):
        await transport.close()


async def _says(transport: KombuTransport, text: str) -> bool:
    return text in (transport.trouble() or "")


async def _unready(health: Health, text: str) -> bool:
    return text in (health.ready(time.monotonic()).reason or "")


async def _ready(health: Health) -> bool:
    return health.ready(time.monotonic()).is_good

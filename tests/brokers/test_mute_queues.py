"""RabbitMQ answers, but one of its quorum queues does not: it has no leader.

That is how a queue comes back that was declared just before RabbitMQ was killed.
The test stops the process of the queue in RabbitMQ, which looks the same from outside.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from brokers.servers import RabbitServer
from helpers import until_async

from paigeant.testing.conformance.transports import Inbox, outgoing
from paigeant.transports import new_transport
from paigeant.transports.amqp import publisher as amqp_publisher
from paigeant.transports.kombu import KombuTransport

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
async def make(own_rabbitmq: RabbitServer) -> AsyncIterator[Callable[[], KombuTransport]]:
    """Makes transports as processes of their own have them."""
    made: list[Any] = []

    def transport() -> Any:
        made.append(new_transport(own_rabbitmq.url))
        return made[-1]

    yield transport
    for one in made:
        await one.close()


def silence(server: RabbitServer, queue: str) -> None:
    server.control("eval", f"sys:suspend(whereis('%2F_{queue}')).")


async def test_delayed_messages_go_round_a_queue_that_does_not_answer(make, own_rabbitmq, monkeypatch) -> None:
    """They arrive a little late, and what has no delay does not wait for them."""
    monkeypatch.setattr(amqp_publisher, "CONFIRM_TIMEOUT", 1.0)
    await make().send(outgoing("p.q", "first", delay=0.1))
    async with Inbox(make(), ["p.q"]) as inbox:
        await inbox.has(1)
        silence(own_rabbitmq, "p.delay.1")
        began = time.monotonic()
        transport = make()
        await transport.send(outgoing("p.q", "second", delay=0.1))
        assert time.monotonic() - began < 10
        await inbox.has(2)
        assert inbox.names == ["first", "second"]


async def test_a_queue_that_does_not_answer_delays_nobody_else(make, own_rabbitmq) -> None:
    """Its own messages wait."""
    await make().send(outgoing("p.mute", "first"))
    silence(own_rabbitmq, "p.mute")
    transport = make()
    sending = asyncio.create_task(transport.send(outgoing("p.mute", "second")))
    await transport.send(outgoing("p.other", "third"))
    began = time.monotonic()
    await transport.send(outgoing("p.other", "fourth"))
    assert time.monotonic() - began < 1.0
    assert not sending.done()
    sending.cancel()


async def test_a_queue_that_does_not_answer_costs_no_consumer_of_another_queue(make, own_rabbitmq) -> None:
    """It is tried again now and then, and the reason can be asked for."""
    transport = make()
    await transport.send([*outgoing("p.mute", "first"), *outgoing("p.other", "second")])
    async with Inbox(transport, ["p.mute", "p.other"]) as inbox:
        await inbox.has(2)
        silence(own_rabbitmq, "p.mute")
        await transport._call(lambda pump: pump._amqp.sock.shutdown(socket.SHUT_RDWR))
        await transport.send(outgoing("p.other", "third"))
        await inbox.has(3)
        await until_async(lambda: asyncio.sleep(0, "p.mute" in str(transport.trouble())))

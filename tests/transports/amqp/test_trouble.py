"""RabbitMQ in trouble: who is concerned pays for it, and nobody else notices."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from brokers.proxy import Proxy
from helpers import until_async
from kombu import Connection
from structlog.testing import capture_logs

from paigeant.errors import BrokerRefused
from paigeant.testing.conformance.transports import Inbox, has_depth, outgoing
from paigeant.transport import Delivery
from paigeant.transports import new_transport
from paigeant.transports.amqp import publisher as amqp_publisher
from paigeant.transports.kombu import KombuTransport

pytestmark = pytest.mark.anyio


@pytest.fixture
async def make(rabbitmq_url: str) -> AsyncIterator[Callable[..., KombuTransport]]:
    """Makes transports as processes of their own have them."""
    made: list[Any] = []

    def transport(url: str = rabbitmq_url, **options: Any) -> Any:
        made.append(new_transport(url, **options))
        return made[-1]

    yield transport
    for one in made:
        await one.close()


@pytest.fixture
def operator(rabbitmq_url: str) -> Iterator[Any]:
    """A channel of somebody else's."""
    with Connection(rabbitmq_url) as connection:
        yield connection.channel()


async def held(transport: KombuTransport, queue: str, inbox: Inbox, count: int = 1) -> list[Delivery]:
    await transport.send(outgoing(queue, *map(str, range(count))))
    return list(await inbox.has(count))


async def see(transport: KombuTransport, look: Callable[[Any], Any]) -> Any:
    return await transport._call(look)


# --- refusals ---------------------------------------------------------------------------------------------------------


async def test_a_queue_that_is_refused_concerns_nobody_else(make, operator, prefix) -> None:
    """Its message is refused in the broker's words; what is held stays, and the others' settlements are made."""
    transport, queue = make(), f"{prefix}.q"
    operator.queue_declare(f"{prefix}.wrong", durable=True, auto_delete=False, arguments={"x-max-length": 5})
    async with Inbox(transport, [queue]) as inbox:
        first, second, third = await held(transport, queue, inbox, 3)
        pump = await see(transport, lambda pump: pump)
        results = await asyncio.gather(
            transport.settle(first, outgoing(f"{prefix}.next", "1")),
            transport.settle(second, outgoing(f"{prefix}.wrong", "2") + outgoing(f"{prefix}.next", "2")),
            transport.settle(third, outgoing(f"{prefix}.next", "3")),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [type(None), BrokerRefused, type(None)]
        assert "PRECONDITION_FAILED - inequivalent arg 'x-max-length'" in str(results[1])
        assert "x-max-length" in (transport.trouble() or "")
        assert await see(transport, lambda pump: pump) is pump
        assert not second.lease.lost
        operator.queue_delete(f"{prefix}.wrong")

        async def is_taken() -> bool:
            try:
                await transport.settle(second, outgoing(f"{prefix}.wrong", "2"))
            except BrokerRefused:
                return False
            return True

        await until_async(is_taken)
        assert {one.deliveries for one in inbox.got} == {1}
    await has_depth(transport, queue, 0)


async def test_a_queue_that_is_full_refuses_only_its_messages(make, prefix) -> None:
    """As with a policy of max-length and reject-publish."""
    transport, queue, full = make(), f"{prefix}.q", f"{prefix}.full"
    arguments = {"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"}
    await see(transport, lambda pump: pump._link.desk.ask(lambda ch: _declare(ch, full, arguments)))
    await see(transport, lambda pump: pump._queues.declared.add(full))
    async with Inbox(transport, [queue]) as inbox:
        [delivery] = await held(transport, queue, inbox)

        async def is_full() -> bool:
            try:
                await transport.send(outgoing(full, "x"))
            except BrokerRefused as error:
                return full in str(error)
            return False

        await until_async(is_full)
        await transport.settle(delivery, outgoing(f"{prefix}.next", "n"))
        assert not delivery.lease.lost


def _declare(channel: Any, name: str, arguments: dict[str, Any]) -> None:
    channel.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)


async def test_a_message_that_rabbitmq_does_not_take_is_found_among_others(make, prefix) -> None:
    """It closes the channel for it, and does not tell for which: they are published one by one."""
    transport, queue = make(), f"{prefix}.q"
    await transport.declare(queue)
    bad = outgoing(queue, "bad", delay=1e9)  # an expiration that is no 32-bit number
    sends = [transport.send(outgoing(queue, str(n))) for n in range(5)]
    results = await asyncio.gather(
        *sends, transport.send(bad), *[transport.send(outgoing(queue, "last"))], return_exceptions=True
    )
    assert [isinstance(result, BrokerRefused) for result in results] == [False] * 5 + [True, False]
    await transport.send(outgoing(queue, "after"))
    async with Inbox(transport, [queue]) as inbox:
        await inbox.has(7)
        assert set(inbox.names) == {*map(str, range(5)), "last", "after"}


async def test_a_consumer_that_is_refused_costs_no_delivery_of_another_queue(make, operator, prefix) -> None:
    """Somebody consumes it exclusively. Once he has gone, it may begin."""
    transport, queue, taken = make(), f"{prefix}.q", f"{prefix}.taken"
    operator.queue_declare(taken, durable=True, auto_delete=False)
    owner = operator.basic_consume(taken, exclusive=True)
    await see(transport, lambda pump: pump._queues.declared.add(taken))
    async with Inbox(transport, [queue]) as inbox:
        [delivery] = await held(transport, queue, inbox)
        with pytest.raises(BrokerRefused, match="exclusive"):
            await anext(transport.consume([taken], 1))
        assert not delivery.lease.lost
        await transport.settle(delivery)
    operator.basic_cancel(owner)
    async with Inbox(transport, [taken]) as inbox:
        await held(transport, taken, inbox)


async def test_a_queue_that_is_refused_later_is_served_again_by_itself(make, operator, prefix, monkeypatch) -> None:
    """Its worker lives, and serves its other queues; nobody has to start it again."""
    transport, queue, other = make(), f"{prefix}.q", f"{prefix}.other"
    async with Inbox(transport, [queue, other]) as inbox:
        await held(transport, queue, inbox)
        await see(transport, lambda pump: pump._inlets[other].cancel())
        operator.queue_delete(other)
        operator.queue_declare(other, durable=True, auto_delete=False, arguments={"x-max-length": 5})
        await see(transport, lambda pump: setattr(pump._inlets[other], "has_ended", True))
        await until_async(lambda: _says(transport, "x-max-length"))
        await transport.send(outgoing(queue, "goes on"))
        await inbox.has(2)
        operator.queue_delete(other)
        await until_async(lambda: _takes(transport, other), 20)
        await inbox.has(3, 20)
        assert transport.trouble() is None or "x-max-length" in (transport.trouble() or "")


async def _says(transport: KombuTransport, text: str) -> bool:
    return text in (transport.trouble() or "")


async def _takes(transport: KombuTransport, queue: str) -> bool:
    try:
        await transport.send(outgoing(queue, "x"))
    except BrokerRefused:
        return False
    return True


async def test_a_question_that_is_refused_closes_nothing(make, operator, prefix) -> None:
    """A purge of somebody's exclusive queue, and a depth of one that is not there."""
    transport, queue, theirs = make(), f"{prefix}.q", f"{prefix}.theirs"
    operator.queue_declare(theirs, exclusive=True)
    async with Inbox(transport, [queue]) as inbox:
        [delivery] = await held(transport, queue, inbox)
        for question in (transport.purge, transport.depth, transport.declare):
            with pytest.raises(BrokerRefused, match="RESOURCE_LOCKED"):
                await question(theirs)
        assert await transport.depth(f"{prefix}.nowhere") == 0
        await transport.settle(delivery)
        assert not delivery.lease.lost


# --- the connection that publishes ------------------------------------------------------------------------------------


async def test_losing_the_connection_that_publishes_costs_no_delivery(make, prefix) -> None:
    """What was on its way is published again, with the same ids."""
    transport, queue = make(), f"{prefix}.q"
    async with Inbox(transport, [queue]) as inbox:
        deliveries = await held(transport, queue, inbox, 20)
        pump = await see(transport, lambda pump: pump)
        for number, delivery in enumerate(deliveries):
            if number % 5 == 0:
                await see(transport, lambda pump: pump._publisher.link.amqp.sock.shutdown(socket.SHUT_RDWR))
            await transport.settle(delivery, outgoing(f"{prefix}.next", str(number)))
        assert await see(transport, lambda pump: pump) is pump
        assert {one.deliveries for one in inbox.got} == {1}
    async with Inbox(transport, [f"{prefix}.next"]) as following:
        await following.has(20)
        assert set(following.names) == set(map(str, range(20)))


async def test_a_late_confirm_is_waited_for_while_the_broker_answers(make, prefix, monkeypatch) -> None:
    """A copy would run the step twice. The connection is asked whether it is there, and kept."""
    monkeypatch.setattr(amqp_publisher, "CONFIRM_TIMEOUT", 0.2)
    transport, queue = make(), f"{prefix}.q"
    await transport.declare(queue)
    await transport.send(outgoing(queue, "first"))
    link, late = await see(transport, lambda pump: pump._publisher.link), list[Any]()

    def deafen(pump: Any) -> None:
        events = pump._publisher._lanes[queue]._channel.events["basic_ack"]
        late.extend(events)
        events.clear()
        events.add(lambda *confirm: late.append(confirm))

    await see(transport, deafen)
    sending = asyncio.create_task(transport.send(outgoing(queue, "late")))

    async def was_asked() -> bool:
        return bool(await see(transport, lambda pump: pump._publisher._ask_again_at > 0))

    await until_async(was_asked)
    assert not sending.done()
    await see(transport, lambda pump: late[0](*late[-1]))
    await sending
    assert await see(transport, lambda pump: pump._publisher.link) is link
    assert await transport.depth(queue) == 2


async def test_a_broker_that_answers_nothing_is_doubted_and_asked_anew(make, prefix, monkeypatch) -> None:
    """Everything sent is swallowed: the deliveries' connection too, which its heartbeats find out."""
    monkeypatch.setattr(amqp_publisher, "CONFIRM_TIMEOUT", 0.3)
    queue = f"{prefix}.q"
    direct = make()
    proxy = Proxy(direct.url)
    try:
        transport = make(proxy.url, lease_seconds=4)
        await transport.send(outgoing(queue, "before"))
        before = proxy.connections
        proxy.stall()
        await transport.send(outgoing(queue, "after"))
        assert proxy.connections > before
        async with Inbox(direct, [queue]) as inbox:
            await inbox.has(2)
        await transport.close()
    finally:
        proxy.close()


# --- heartbeats -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lease", "heartbeat"), [(30.0, 15), (8.0, 4), (1.0, 1)])
async def test_the_heartbeat_follows_the_lease(make, lease, heartbeat) -> None:
    """Both sides notice silence after two of them."""
    transport = make(lease_seconds=lease)
    assert await see(transport, lambda pump: pump._amqp.heartbeat) == heartbeat


async def test_what_a_silent_connection_holds_comes_to_others_within_two_leases(make, prefix) -> None:
    """A frozen worker, or a proxy that swallows everything: RabbitMQ misses its heartbeats."""
    queue, direct, lease = f"{prefix}.q", make(), 4.0
    proxy = Proxy(direct.url)
    try:
        silent = make(proxy.url, lease_seconds=lease)
        async with Inbox(silent, [queue]) as inbox:
            [delivery] = await held(silent, queue, inbox)
            proxy.stall()
            async with Inbox(direct, [queue]) as others:
                [again] = await others.has(1, 2 * lease + 6)
                assert again.deliveries == 2
                await direct.settle(again)
            await until_async(lambda: _is_lost(delivery), 2 * lease + 6)
        await silent.close()
    finally:
        proxy.close()


async def _is_lost(delivery: Delivery) -> bool:
    return delivery.lease.lost


# --- copies -----------------------------------------------------------------------------------------------------------


async def test_a_copy_of_a_message_that_is_out_waits_and_goes_with_it(make, prefix) -> None:
    """Its publisher did not hear the confirm and sent it again."""
    transport, queue = make(), f"{prefix}.q"
    async with Inbox(transport, [queue]) as inbox:
        with capture_logs() as logs:
            await transport.send(outgoing(queue, "m"))
            [delivery] = await inbox.has(1)
            await transport.send(outgoing(queue, "m"))
            await has_depth(transport, queue, 0)
            await transport.send(outgoing(queue, "marker"))
            await inbox.has(2)
        assert inbox.names == ["m", "marker"]
        assert "a copy of a message waits for the first one's end" in [one["event"] for one in logs]
        await transport.settle(delivery, outgoing(f"{prefix}.next", "n"))
        await transport.settle(inbox.got[1])
    await transport.close()
    assert await make().depth(queue) == 0


# --- delays -----------------------------------------------------------------------------------------------------------


async def test_many_delays_and_many_targets_share_few_queues(make, prefix) -> None:
    """One of each power of two seconds, for the whole prefix."""
    transport, targets = make(), [f"{prefix}.{n}" for n in range(3)]
    delays = [n / 40 for n in range(1, 60)]
    for number, delay in enumerate(delays):
        await transport.send(outgoing(targets[number % 3], f"d{number}", delay=delay))
    known = await see(transport, lambda pump: set(pump._queues.declared))
    assert {name for name in known if ".delay." in name} == {f"{prefix}.delay.1", f"{prefix}.delay.2"}
    async with Inbox(transport, targets) as inbox:
        await inbox.has(len(delays), 30)


@pytest.mark.endurance
@pytest.mark.timeout(300)
async def test_a_delayed_message_waits_for_a_target_that_is_not_there(make, prefix) -> None:
    """RabbitMQ tries again every three minutes."""
    transport, queue = make(), f"{prefix}.q"
    await transport.send(outgoing(queue, "m", delay=0.5))
    await transport.delete(queue)
    await has_depth(transport, f"{prefix}.delay.1", 0)
    await transport.declare(queue)
    async with Inbox(transport, [queue]) as inbox:
        await inbox.has(1, 240)


# --- the delivery limit -----------------------------------------------------------------------------------------------


@pytest.fixture
def limited(rabbitmq_url: str, prefix: str) -> Iterator[int]:
    """A policy for the queues of this test alone."""
    if not shutil.which("rabbitmqctl"):
        pytest.skip("rabbitmqctl is not here")
    _policy("set_policy", prefix, f"^{prefix}", '{"delivery-limit": 2}', "--apply-to", "queues")
    yield 2
    _policy("clear_policy", prefix)


def _policy(*words: str) -> None:
    subprocess.run(["rabbitmqctl", "--quiet", *words], check=True, capture_output=True, timeout=60)


async def test_a_delivery_limit_is_found_out(make, limited, prefix) -> None:
    """Where there is none, nothing is found."""
    assert await make().delivery_limit(prefix) == limited
    assert await make().delivery_limit(f"no-{prefix}") is None


async def test_a_message_outlives_the_delivery_limit(make, limited, prefix) -> None:
    """It is sent anew before RabbitMQ drops it, and its deliveries count on."""
    queue, sender = f"{prefix}.q", make()
    await sender.send(outgoing(queue, "m"))
    for count in range(1, 8):
        dying = make()
        await dying.delivery_limit(prefix)
        async with Inbox(dying, [queue]) as inbox:
            [delivery] = await inbox.has(1)
            assert delivery.deliveries == count
            await see(dying, lambda pump: pump._amqp.sock.close())
            dying._bridge = None  # as if its process had died

"""Programs that consume over our transports with kombu, from one message to whole worker processes."""

from __future__ import annotations

import gc
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers import until
from kombu import Connection, Consumer, Queue
from kombu.mixins import ConsumerMixin
from kombu.pools import producers
from processes import run
from transports.kombu_programs import LEASE, Backend, consume, drain, everything, get, payloads, program, put, size


def test_one_event_is_one_message(connection: Connection) -> None:
    """As with a socket, the next message waits for the next call."""
    got = consume(connection)
    put(connection, "a", "b")
    assert drain(connection)
    assert payloads(got) == ["a"]
    assert drain(connection)
    assert not drain(connection)
    assert payloads(got) == ["a", "b"]


def test_no_more_is_held_than_prefetch_allows(connect: Callable[..., Connection]) -> None:
    """Other consumers get the rest until one is acknowledged."""
    ours, theirs = connect(), connect()
    put(ours, "a", "b", "c")
    got = consume(ours, prefetch=2)
    while drain(ours):
        pass
    assert payloads(got) == ["a", "b"]
    assert payloads([get(theirs)]) == ["c"]
    put(ours, "d")
    got[0].ack()
    assert drain(ours)
    assert payloads(got) == ["a", "b", "d"]


def test_channels_of_one_connection_consume_side_by_side(connection: Connection) -> None:
    """Each channel acknowledges its own messages; closing one releases only its own."""
    got: dict[int, list[Any]] = {0: [], 1: []}
    channels = [connection.channel(), connection.channel()]
    for number, channel in enumerate(channels):
        consumer = Consumer(channel, [Queue("q")], on_message=got[number].append, prefetch_count=1)
        consumer.consume()
    put(connection, "a", "b")
    while drain(connection):
        pass
    assert sorted(payloads(got[0] + got[1])) == ["a", "b"]
    channels[0].close()
    got[1][0].ack()
    assert everything(connection) == payloads(got[0])


def test_consumers_of_one_queue_take_turns(connection: Connection) -> None:
    """Both consume on the same channel."""
    first, second = consume(connection), consume(connection)
    put(connection, "a", "b", "c", "d")
    while drain(connection):
        pass
    assert (payloads(first), payloads(second)) == (["a", "c"], ["b", "d"])


def test_cancelling_gives_back_what_was_not_handed_out(connect: Callable[..., Connection]) -> None:
    """The program keeps the messages that it has seen."""
    ours, theirs = connect(), connect()
    got: list[Any] = []
    put(ours, "a", "b", "c")
    with Consumer(ours.default_channel, [Queue("q")], on_message=got.append):
        assert drain(ours)
    assert everything(theirs) == ["b", "c"]
    got[0].ack()


def test_closing_gives_back_at_once(connect: Callable[..., Connection]) -> None:
    """Closing a channel or a connection counts no delivery."""
    for close in (lambda one: one.default_channel.close(), lambda one: one.release()):
        leaving = connect()
        put(leaving, "m")
        assert get(leaving, no_ack=False)
        close(leaving)
        message = get(connect())
        assert message is not None
        assert "x-delivery-count" not in message.headers


def test_a_forgotten_channel_gives_back(connect: Callable[..., Connection], connection: Connection) -> None:
    """Programs forget to close channels; their leases must end all the same."""
    put(connection, "m")
    forgotten = connect()
    channel: Any = forgotten.channel()
    assert channel.basic_get("q") is not None
    heartbeat = channel._heartbeat
    forgotten.transport.channels.remove(channel)
    del channel
    gc.collect()
    assert everything(connection) == ["m"]
    until(lambda: not heartbeat.is_alive())


def test_a_message_can_be_acknowledged_from_another_thread(connection: Connection) -> None:
    """Worker pools do so."""
    got = consume(connection)
    put(connection, *(f"m{number}" for number in range(20)))
    threads = []
    while drain(connection):
        threads.append(threading.Thread(target=got[-1].ack))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert len(threads) == 20
    assert size(connection) == 0
    assert not connection.default_channel._queue.is_holding


# --- leases -------------------------------------------------------------------------------------------------------


def test_draining_keeps_the_lease(connect: Callable[..., Connection], clock: Any) -> None:
    """This holds while no message arrives, and while prefetch allows none."""
    busy, other = connect(), connect()
    put(busy, "a", "b")
    got = consume(busy, prefetch=1)
    assert drain(busy)
    for _ in range(10):
        clock.advance(LEASE / 2)
        assert not drain(busy)
        assert everything(other) in (["b"], [])
    got[0].ack()


HOLD = """
import json, sys, time
from kombu import Connection
import paigeant.transports
with Connection(sys.argv[1], transport_options=json.loads(sys.argv[2]) | {"lease_seconds": 0.5}) as connection:
    print(connection.default_channel.basic_get("q").payload, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_held_comes_back(connect: Callable[..., Connection], backend: Backend) -> None:
    """It is redelivered after the lease; SIGKILL leaves no time for a release."""
    connection = connect(clock=None)
    put(connection, "m")
    command = [sys.executable, "-c", HOLD, *program(backend)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "m\n"
        assert get(connection) is None
        victim.send_signal(signal.SIGKILL)
    message = until(lambda: get(connection))
    assert (message.payload, message.headers["x-delivery-count"]) == ("m", 1)


FORGET = """
import json, os, sys, warnings
from kombu import Connection
import paigeant.transports
options = json.loads(sys.argv[2])
connection = Connection(sys.argv[1], transport_options=options)
print(connection.default_channel.basic_get("q").payload, flush=True)
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    sys.exit()
os.waitpid(child, 0)
with Connection(sys.argv[1], transport_options=options) as other:
    print(other.default_channel.basic_get("q"), flush=True)
"""


def test_a_program_that_ends_gives_back(connect: Callable[..., Connection], backend: Backend) -> None:
    """It closes nothing itself. A forked child that exits releases nothing: the messages are its parent's."""
    connection = connect(clock=None)
    put(connection, "m")
    ended = run("-c", FORGET, *program(backend), cwd=Path.cwd())
    assert ended.stdout.splitlines() == ["m", "None"]
    message = get(connection)
    assert message.payload == "m"
    assert "x-delivery-count" not in message.headers


# --- kombu's higher levels ----------------------------------------------------------------------------------------


def test_simple_queues(connect: Callable[..., Connection]) -> None:
    """SimpleQueue can put, look, get and count."""
    queue = connect().SimpleQueue("simple")
    queue.put({"a": 1})
    queue.put("b")
    assert queue.qsize() == 2
    message = queue.get(timeout=5)
    assert message.payload == {"a": 1}
    message.ack()
    with pytest.raises(queue.Empty):
        connect().SimpleQueue("empty").get(block=False)
    assert queue.get(timeout=5).payload == "b"


def test_timeouts(connection: Connection) -> None:
    """An empty queue raises socket.timeout, as everywhere in kombu."""
    consume(connection)
    with pytest.raises(socket.timeout):
        connection.drain_events(timeout=0.01)


class Listener(ConsumerMixin):
    """A consumer that stops after enough messages; its connection breaks at the first ``fragile`` one."""

    def __init__(self, connection: Connection, enough: int, fragile: str, trouble: Exception) -> None:
        self.connection = connection
        self.enough = enough
        self.fragile = fragile
        self.trouble = trouble
        self.got: list[Any] = []

    def get_consumers(self, consumer: Any, channel: Any) -> list[Any]:
        return [consumer(queues=[Queue("q")], callbacks=[self.on_message], prefetch_count=1)]

    def on_message(self, body: Any, message: Any) -> None:
        self.got.append(body)
        if body == self.fragile:
            self.fragile = ""
            raise self.trouble
        message.ack()
        self.should_stop = len(self.got) >= self.enough


def test_a_consumer_mixin_goes_on_after_a_lost_connection(connect: Callable[..., Connection], backend: Backend) -> None:
    """The broker redelivers the message that was not acknowledged."""
    put(connect(), "a", "b", "c")
    listener = Listener(connect(), enough=4, fragile="b", trouble=backend.trouble)
    thread = threading.Thread(target=listener.run, daemon=True)
    thread.start()
    until(lambda: not thread.is_alive(), deadline=30)
    assert listener.got == ["a", "b", "b", "c"]


def test_publishing_is_retried_over_a_lost_connection(connect: Callable[..., Connection], backend: Backend) -> None:
    """With ``retry``, kombu opens a new connection and channel."""
    connection = connect()
    with producers[connection].acquire(block=True) as producer:
        channel = producer.channel
        queue = channel._queue
        exchange = queue.exchange

        def broken(*arguments: Any) -> Any:
            queue.exchange = exchange
            raise backend.trouble

        queue.exchange = broken
        producer.publish("m", routing_key="q", retry=True, retry_policy={"max_retries": 3, "interval_start": 0})
        producer.connection.release()
    assert everything(connect()) == ["m"]


WORKER = """
import json, sys
from kombu import Connection, Queue
import paigeant.transports
with Connection(sys.argv[1], transport_options=json.loads(sys.argv[2])) as connection:
    channel, producer, got = connection.default_channel, connection.Producer(), []
    for number in range(int(sys.argv[3])):
        producer.publish(number, routing_key="in", declare=[Queue("in")])
    def forward(body, message):
        producer.publish(body, routing_key="out")
        message.ack()
        got.append(body)
    with connection.Consumer([Queue("in")], callbacks=[forward]):
        try:
            while True:
                connection.drain_events(timeout=2)
        except TimeoutError:
            print(len(got))
"""


@pytest.mark.slow
def test_many_processes_share_one_database(connect: Callable[..., Connection], backend: Backend) -> None:
    """Four processes publish, receive and acknowledge: no lock errors, no message lost or duplicated."""
    count = 60
    with ThreadPoolExecutor(4) as threads:
        command = ("-c", WORKER, *program(backend), str(count))
        running = [threads.submit(run, *command, cwd=Path.cwd(), timeout=100.0) for _ in range(4)]
    results = [one.result() for one in running]
    assert [one.stderr for one in results if one.stderr] == []
    assert sum(int(one.stdout) for one in results) == 4 * count
    assert sorted(everything(connect(), "out")) == sorted(list(range(count)) * 4)

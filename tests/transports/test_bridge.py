"""KombuTransport: asyncio on one side, a thread with the broker on the other. What all share is in conformance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from helpers import until, until_async
from sqlalchemy.exc import OperationalError
from transports.bridges import break_commits, bury, names, pump_of, transport_at

from paigeant.errors import BrokerRefused, PaigeantError, Superseded, TransportError
from paigeant.events import Event, StepEnded, WorkflowDispatched
from paigeant.testing.conformance.transports import Inbox, has_depth, outgoing
from paigeant.testing.conformance.waiting import in_loop
from paigeant.transport import Outgoing
from paigeant.transports import forget, get_transport
from paigeant.transports.kombu import KombuTransport
from paigeant.transports.sql import queue as sql_queue

# --- the way of a message -----------------------------------------------------------------------------------------


@in_loop
async def test_consumers_of_one_transport_get_their_own_queues(url: str, prefix: str) -> None:
    """And take turns where they share one."""
    async with transport_at(url) as transport, AsyncExitStack() as stack:
        first = await stack.enter_async_context(Inbox(transport, [f"{prefix}.a", f"{prefix}.shared"]))
        second = await stack.enter_async_context(Inbox(transport, [f"{prefix}.b", f"{prefix}.shared"]))
        await transport.send(outgoing(f"{prefix}.a", "a") + outgoing(f"{prefix}.b", "b"))
        await transport.send(outgoing(f"{prefix}.shared", *"1234"))
        await until_async(_together(first, second, 6))
        assert "a" in names(first.got)
        assert "b" in names(second.got)
        assert sorted(names(first.got + second.got)) == ["1", "2", "3", "4", "a", "b"]
        assert min(len(first.got), len(second.got)) >= 2, "one of them took all that they share"
        for delivery in first.got + second.got:
            await transport.settle(delivery)


def _together(first: Inbox, second: Inbox, count: int) -> Callable[[], Coroutine[Any, Any, bool]]:
    async def reached() -> bool:
        return len(first.got) + len(second.got) == count

    return reached


@in_loop
async def test_a_consumer_that_is_closed_gives_back_what_it_did_not_take(sqlite_url: str) -> None:
    """What it has yielded can still be settled; nothing more comes."""
    async with transport_at(sqlite_url) as transport:
        await transport.send(outgoing("q", "first"))
        batches = transport.consume(["q"], 10)
        [first] = await anext(batches)
        await transport.send(outgoing("q", "a", "b"))
        await has_depth(transport, "q", 0)
        await batches.aclose()
        assert await transport.depth("q") == 2
        await transport.send(outgoing("q", "c"))
        await transport.settle(first, outgoing("next", "n"))
        assert await transport.queues() == {"q": 3, "next": 1}
        async with Inbox(transport, ["q"]) as inbox:
            assert [delivery.deliveries for delivery in await inbox.has(3)] == [1, 1, 1]


@in_loop
async def test_closing_gives_back_at_once(sqlite_url: str) -> None:
    """Nobody has to wait for the lease."""
    async with transport_at(sqlite_url, lease=600) as staying:
        async with transport_at(sqlite_url, lease=600) as leaving:
            await leaving.send(outgoing("q", "m"))
            batches = leaving.consume(["q"], 10)
            [delivery] = await anext(batches)
            await leaving.close()
        async with Inbox(staying, ["q"]) as inbox:
            [again] = await inbox.has(1)
            await staying.settle(again)
        assert (again.body, again.deliveries) == (b"m", 1)
        assert delivery.token < again.token
        await batches.aclose()


# --- leases -------------------------------------------------------------------------------------------------------


@in_loop
async def test_extending_tells_when_the_lease_is_lost(sqlite_url: str) -> None:
    """A live worker's leases renew themselves; this asks the database."""
    async with transport_at(sqlite_url) as transport, Inbox(transport, ["q"]) as inbox:
        await transport.send(outgoing("q", "m"))
        [delivery] = await inbox.has(1)
        await transport.extend(delivery)
        assert not delivery.lease.lost
        await bury(transport)
        with pytest.raises(Superseded):
            await transport.extend(delivery)
        assert delivery.lease.lost


# --- trouble ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after the commit"])
@in_loop
async def test_trouble_with_the_broker_is_never_the_steps_failure(sqlite_url: str, after: bool) -> None:
    """The same settlement with the same ids until it is made, and it is made once."""
    async with transport_at(sqlite_url) as transport, Inbox(transport, ["q", "next"]) as inbox:
        await transport.send(outgoing("q", "m"))
        [delivery] = await inbox.has(1)
        tried = break_commits(await pump_of(transport), times=4, after=after)
        await transport.settle(delivery, outgoing("next", "n"))
        assert len(tried) > 1
        assert all(ids == ["next/n"] for ids in tried)
        assert not delivery.lease.lost
        follower = (await inbox.has(2))[1]
        await transport.settle(follower)
        assert names(inbox.got) == ["m", "n"]
        assert await transport.queues() == {"q": 0, "next": 0}


@in_loop
async def test_what_is_out_stays_ours_over_trouble(sqlite_url: str) -> None:
    """Steps that run meanwhile are neither lost nor given to others."""
    async with transport_at(sqlite_url) as ours, transport_at(sqlite_url) as theirs:
        async with Inbox(ours, ["q"]) as inbox, Inbox(theirs, ["q"], prefetch=1) as others:
            await theirs.send(outgoing("q", *"abc"))
            await until_async(_together(inbox, others, 3))
            break_commits(await pump_of(ours), times=2)
            for delivery in inbox.got:
                await ours.settle(delivery)
            for delivery in others.got:
                await theirs.settle(delivery)
        assert sorted(names(inbox.got + others.got)) == ["a", "b", "c"]
        assert {delivery.deliveries for delivery in inbox.got + others.got} == {1}


@in_loop
async def test_an_idle_thread_only_glances_and_still_hears_at_once(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exchanges come once a second, glances fifty times; what another process sends arrives within one glance."""
    monkeypatch.setattr(sql_queue, "LONGEST_SLEEP", 1_000.0)
    lease = 10_000.0  # whose tenth is the longest sleep as well
    async with (
        transport_at(sqlite_url, lease) as transport,
        transport_at(sqlite_url) as other,
        Inbox(transport, ["q"]) as inbox,
    ):
        pump, did = await pump_of(transport), list[str]()
        exchange, has_news = pump.exchange, pump._has_news
        pump.exchange = lambda *given: did.append("exchange") or exchange(*given)
        pump._has_news = lambda: did.append("glance") or has_news()
        await asyncio.to_thread(until, lambda: did[-20:] == ["glance"] * 20)
        await other.send(outgoing("q", "m"))
        [delivery] = await inbox.has(1)
        await transport.settle(delivery)


@in_loop
async def test_the_thread_outlives_a_socket_that_is_gone(sqlite_url: str) -> None:
    """Without it nothing would be settled any more, and no lease renewed."""
    async with transport_at(sqlite_url) as transport, Inbox(transport, ["q"]) as inbox:
        await transport.send(outgoing("q", "m"))
        [delivery] = await inbox.has(1)
        pump, asked = await pump_of(transport), list[str]()

        def fileno() -> None:
            asked.append("fileno")
            if len(asked) == 1:
                raise OSError("the connection is lost")

        pump.fileno = fileno
        await transport.settle(delivery, outgoing("next", "n"))
        await asyncio.to_thread(until, lambda: asked)
        assert await transport.queues() == {"q": 0, "next": 1}


@in_loop
async def test_sending_gives_up_on_a_broker_that_stays_away(sqlite_url: str) -> None:
    """Whoever dispatches gets an error in time; nothing hangs."""
    known = get_transport(sqlite_url)
    forget(known)
    transport = KombuTransport(sqlite_url, known.features, known._new_connection, send_timeout=0.2)
    await transport.connect()
    break_commits(await pump_of(transport), times=1000)
    with pytest.raises(TransportError, match="server closed"):
        await transport.send(outgoing("q", "m"))
    await transport.close()


@pytest.mark.parametrize("call", [lambda t: t.connect(), lambda t: t.send(outgoing("q", "m")), lambda t: t.depth("q")])
@in_loop
async def test_a_broker_that_cannot_be_reached_is_named(tmp_path: Path, call: Any) -> None:
    """With the reason, and soon."""
    known = get_transport(f"sqlite:///{tmp_path / 'missing' / 'queue.db'}")
    forget(known)
    transport = KombuTransport(known.url, known.features, known._new_connection, send_timeout=0.2)
    with pytest.raises(TransportError, match="unable to open database file"):
        await call(transport)
    await transport.close()


@in_loop
async def test_a_settlement_that_can_never_be_made_fails_alone(sqlite_url: str) -> None:
    """The others of its group are made; its delivery is still held."""
    async with transport_at(sqlite_url) as transport, Inbox(transport, ["q"]) as inbox:
        await transport.send(outgoing("q", *"abc"))
        deliveries = await inbox.has(3)
        impossible = [Outgoing(queue="\ud800", body=b"no database takes this name")]
        results = await asyncio.gather(
            transport.settle(deliveries[0], outgoing("next", "1")),
            transport.settle(deliveries[1], impossible),
            transport.settle(deliveries[2], outgoing("next", "2")),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [type(None), BrokerRefused, type(None)]
        await transport.settle(deliveries[1], outgoing("next", "3"))
        assert await transport.queues() == {"q": 0, "next": 3}


@in_loop
async def test_trouble_while_a_culprit_is_looked_for_is_nobodys_failure(sqlite_url: str) -> None:
    """The innocent settlements of the group are tried again; only the culprit fails."""
    async with transport_at(sqlite_url) as transport, Inbox(transport, ["q"]) as inbox:
        await transport.send(outgoing("q", *"ab"))
        first, second = await inbox.has(2)
        pump = await pump_of(transport)
        exchange, broken = pump.exchange, iter([True])

        def break_once(settlements: Sequence[Any], limit: int) -> Any:
            if len(settlements) == 1 and next(broken, False):
                raise OperationalError("COMMIT", {}, Exception("server closed the connection"))
            return exchange(settlements, limit)

        pump.exchange = break_once
        results = await asyncio.gather(
            transport.settle(first, outgoing("next", "n")),
            transport.settle(second, [Outgoing(queue="\ud800", body=b"")]),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [type(None), BrokerRefused]
        assert await transport.depth("next") == 1


class PickyLedger:
    """A store in the same database that cannot take one of the workflows."""

    def __init__(self, url: str, refuses: str) -> None:
        self.database_url = url
        self.refuses = refuses
        self.written: list[str] = []

    def write(self, connection: Any, events: Sequence[Event]) -> None:
        ids = [event.correlation_id for event in events]
        if self.refuses in ids:
            raise ValueError("cannot record this")
        self.written += ids

    def finished(self, connection: Any, message_ids: Sequence[str]) -> list[str]:
        return []

    def recorded(self, connection: Any, ends: Sequence[StepEnded]) -> bool:
        return False


@in_loop
async def test_history_is_written_with_the_settlement_or_not_at_all(sqlite_url: str) -> None:
    """One event that cannot be recorded keeps its own message from being sent, and no other."""
    ledger = PickyLedger(sqlite_url, refuses="bad")
    transport = get_transport(sqlite_url)
    forget(transport)
    assert transport.enlist(ledger)
    event = {"at": 0.0, "name": "w", "app": "a", "message_id": "m"}
    sends = [
        transport.send(outgoing("q", name), [WorkflowDispatched(correlation_id=name, **event)])
        for name in ("x", "bad", "y")
    ]
    results = await asyncio.gather(*sends, return_exceptions=True)
    assert [isinstance(result, PaigeantError) for result in results] == [False, True, False]
    assert sorted(set(ledger.written)) == ["x", "y"]
    assert await transport.depth("q") == 2
    await transport.close()


@in_loop
async def test_calls_work_again_after_trouble(sqlite_url: str) -> None:
    """The call during which the connection broke fails, the next one is answered."""
    async with transport_at(sqlite_url) as transport:
        await transport.send(outgoing("q", "m"))

        def fail(pump: Any) -> None:
            raise OperationalError("SELECT", {}, Exception("server closed the connection"))

        with pytest.raises(TransportError, match="server closed"):
            await transport._call(fail)
        assert await transport.depth("q") == 1


@in_loop
async def test_another_database_cannot_be_joined(sqlite_url: str, tmp_path: Path) -> None:
    """Nor can a broker that has no transactions."""
    elsewhere = PickyLedger(f"sqlite:///{tmp_path / 'other.db'}", refuses="")
    for url in (sqlite_url, "memory://"):
        transport = get_transport(url)
        forget(transport)
        assert not transport.enlist(elsewhere)


@pytest.mark.parametrize("trouble", [False, True])
@in_loop
async def test_a_consumer_that_leaves_does_not_open_a_closed_transport_again(sqlite_url: str, trouble: bool) -> None:
    """Nobody would close it a second time: its thread would try for ever to reach a broker that has gone."""
    async with transport_at(sqlite_url) as transport:
        await transport.send(outgoing("q", *"abcd"))
        flow = transport.consume(["q"], 4)
        await anext(flow)
        leaving = flow.aclose()
        if trouble:
            met: list[Any] = []

            def lose_connection(settlements: Any, limit: int) -> Any:
                met.append(settlements)
                raise OperationalError("", {}, Exception("server closed the connection"), connection_invalidated=True)

            (await pump_of(transport)).exchange = lose_connection
            leaving = asyncio.ensure_future(leaving)
            await asyncio.to_thread(until, lambda: met)  # it is not waited for
    await leaving
    assert transport._bridge is None
    async with transport_at(sqlite_url) as another, Inbox(another, ["q"]) as inbox:
        assert sorted(names(await inbox.has(4))) == ["a", "b", "c", "d"]


@in_loop
async def test_a_consumer_still_hears_after_somebody_sent_what_the_broker_refuses(sqlite_url: str) -> None:
    """The connection is dropped for it, and comes again although nobody asks for anything."""
    async with (
        transport_at(sqlite_url) as transport,
        transport_at(sqlite_url) as another,
        Inbox(transport, ["q"]) as inbox,
    ):
        with pytest.raises(TransportError):
            await transport.send([Outgoing(queue="\ud800", body=b"no database takes this name")])
        await another.send(outgoing("q", "later"))
        assert names(await inbox.has(1)) == ["later"]

"""Queues in Redis Streams: what our kombu transport over Redis does underneath.

A queue is a stream with one consumer group. One script, ``lua/exchange.lua``, makes a whole exchange atomically: it
settles what is still held, adds what follows, frees what dead holders held and claims. A holder keeps all its leases by
one entry in a sorted set; times are the server's.

What Redis promises about its own durability is a matter of its configuration (``appendonly``, ``maxmemory-policy``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from typing import Any
from uuid import uuid4

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from paigeant.errors import TransportError
from paigeant.transport import Delivery, Ledger, Outgoing
from paigeant.transports.settlement import Settlement

SOCKET_TIMEOUT = 5.0
"""Seconds after which a silent Redis counts as gone. Nothing here blocks on the server."""

_FALLBACK_POLL = 1.0
"""Seconds between two looks although no wake-up came: publish/subscribe may lose one."""


class RedisQueue:
    """The queues of one Redis database as one thread of one process uses them."""

    keeps_leases = True

    def __init__(self, client: redis.Redis, *, prefix: str = "paigeant:", lease_seconds: float = 30.0) -> None:
        self._redis = client
        self._prefix = prefix
        self._lease = lease_seconds
        self._me = uuid4().hex
        self._known = False
        self._renewed_at = float("-inf")
        self._held: dict[tuple[str, str], Delivery] = {}
        self._subscription: list[str] = []
        self._due_in: float | None = None
        self._may_have_more = False
        self._wake: Any = None

    # --- life ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect and listen for wake-ups."""
        self._redis.ping()
        self._wake = self._redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._wake.subscribe(f"{self._prefix}wake")
        self._wake.get_message(timeout=SOCKET_TIMEOUT)
        self._reclaim()

    def disconnect(self) -> None:
        """Drop the connections. Leases stay: they are kept by name, not by connection."""
        if self._wake is not None:
            self._wake.close()
            self._wake = None
        self._redis.connection_pool.disconnect()

    def close(self) -> None:
        """Give back every delivery at once and disconnect."""
        try:
            if self._known:
                self._exchange([Settlement(delivery=one, release_after=0.0) for one in self._held.values()], 0)
                self._redis.zrem(f"{self._prefix}holders", self._me)
        finally:
            self._lose_all()
            self.disconnect()

    @property
    def patience(self) -> float | None:
        """Until the next delayed message, renewal or fallback look."""
        if not self._subscription:
            return self._lease / 6 if self._known else None
        waits = [_FALLBACK_POLL, self._lease / 6]
        if self._may_have_more:
            waits.append(0.0)
        if self._due_in is not None:
            waits.append(self._due_in)
        return min(waits)

    def fileno(self) -> int | None:
        return int(self._wake.connection._sock.fileno()) if self._wake is not None else None

    def is_recoverable(self, error: BaseException) -> bool:
        """Everything but a command Redis can never take; a full or loading server may recover."""
        if isinstance(error, redis.exceptions.ResponseError):
            return str(error).startswith(("OOM", "LOADING", "READONLY", "MISCONF", "BUSY", "CLUSTERDOWN", "MASTERDOWN"))
        return isinstance(error, redis.exceptions.RedisError | OSError)

    def enlist(self, ledger: Ledger) -> None:
        raise TransportError("Redis has no transaction that a store could join")

    # --- queues ----------------------------------------------------------------------------------------------

    def declare(self, names: Iterable[str]) -> None:
        if names := list(names):
            self._redis.sadd(f"{self._prefix}queues", *names)

    def depth(self, name: str) -> int:
        return int(self._script("depth")(args=[self._prefix, name]))

    def depths(self) -> Mapping[str, int]:
        names = sorted(_text(name) for name in self._redis.smembers(f"{self._prefix}queues"))
        return {name: self.depth(name) for name in names}

    def purge(self, name: str) -> int:
        return int(self._script("purge")(args=[self._prefix, name]))

    def delete(self, name: str) -> None:
        """Delete the queue with everything in it, what is out included."""
        self.purge(name)
        streams = [f"{self._prefix}queue:{name}:{priority}" for priority in range(10)]
        self._redis.delete(*streams, f"{self._prefix}levels:{name}")
        self._redis.srem(f"{self._prefix}streams", *streams)
        self._redis.srem(f"{self._prefix}queues", name)

    def subscribe(self, names: Sequence[str], prefetch: int = 0) -> None:
        del prefetch
        self._subscription = list(dict.fromkeys(names))
        self._may_have_more = True

    def renew(self) -> None:
        self._renewed_at = float("-inf")
        self._exchange([], 0)

    # --- the hop ---------------------------------------------------------------------------------------------

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> tuple[list[bool], list[Delivery]]:
        """Settle and claim in one script: whether each settlement was accepted, and up to ``limit`` deliveries."""
        self._hush()
        wanted = limit if self._subscription else 0
        if not settlements and not wanted and not self._renewal_is_due():
            return [], []
        return self._exchange(settlements, wanted)

    def _exchange(self, settlements: Sequence[Settlement], wanted: int) -> tuple[list[bool], list[Delivery]]:
        now = time.monotonic()
        if self._renewal_is_due():
            self._reclaim()
        renew = self._renewal_is_due() or (wanted > 0 and not self._known)
        lost, accepted, claimed, due = self._script("exchange")(args=self._arguments(settlements, wanted, renew))
        if renew:
            self._renewed_at, self._known = now, True
        for settlement in settlements:
            if settlement.delivery is not None:
                self._held.pop(settlement.delivery.tag, None)
        if lost:
            self._lose_all()
        deliveries = [_delivery(*entry) for entry in claimed]
        self._held.update((delivery.tag, delivery) for delivery in deliveries)
        self._due_in = due / 1000 if due >= 0 else None
        self._may_have_more = wanted > 0 and len(deliveries) >= wanted
        self._subscription = self._subscription[1:] + self._subscription[:1]
        forgiven = [bool(ok) or s.release_after is not None for ok, s in zip(accepted, settlements, strict=True)]
        return forgiven, deliveries

    def _arguments(self, settlements: Sequence[Settlement], wanted: int, renew: bool) -> list[Any]:
        lease = int(self._lease * 1000) if renew else 0
        arguments: list[Any] = [self._prefix, self._me, lease, int(self._known), wanted]
        arguments += [len(self._subscription), *self._subscription, len(settlements)]
        for settlement in settlements:
            arguments += _settlement(settlement)
        return arguments

    def _reclaim(self) -> None:
        """Let others have what an exchange claimed whose answer was lost: renewed leases would keep it for ever.

        Not only after a new connection: Redis may carry out late what it was sent over the old one.
        """
        if self._known:
            known = [part for tag in self._held for part in tag]
            self._script("reclaim")(args=[self._prefix, self._me, *known])

    def _renewal_is_due(self) -> bool:
        return self._known and time.monotonic() - self._renewed_at >= self._lease / 3

    def _lose_all(self) -> None:
        for delivery in self._held.values():
            delivery.lease.lost = True
        self._held.clear()
        self._me, self._known, self._renewed_at = uuid4().hex, False, float("-inf")

    def _hush(self) -> None:
        """Read the wake-ups that have come; they have done their work."""
        while self._wake is not None and self._wake.connection.can_read(timeout=0):
            self._wake.get_message(timeout=0)

    def _script(self, name: str) -> Any:
        return self._scripts[name]

    @cached_property
    def _scripts(self) -> dict[str, Any]:
        folder = files("paigeant").joinpath("transports", "lua")
        return {
            name: self._redis.register_script(folder.joinpath(f"{name}.lua").read_text())
            for name in ("exchange", "depth", "purge", "reclaim")
        }


def connect(url: str) -> redis.Redis:
    """A client that neither hangs on a dead connection nor sends a command twice by itself."""
    return redis.Redis.from_url(
        url,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=SOCKET_TIMEOUT,
        socket_keepalive=True,
        health_check_interval=15,
        retry=Retry(NoBackoff(), 0),
    )


def _settlement(settlement: Settlement) -> list[Any]:
    delivery, release = settlement.delivery, settlement.release_after
    stream, entry = delivery.tag if delivery is not None else ("", "")
    kind = "send" if delivery is None else "ack" if release is None else "release"
    parts: list[Any] = [
        kind,
        stream,
        entry,
        delivery.token if delivery is not None else 0,
        int((release or 0.0) * 1000),
        int(settlement.tried),
        len(settlement.outgoing),
    ]
    for one in settlement.outgoing:
        parts += _outgoing(one)
    return parts


def _outgoing(one: Outgoing) -> list[Any]:
    headers = json.dumps(dict(one.headers)) if one.headers else "{}"
    return [one.queue, one.id or "", one.body, headers, int(one.delay * 1000), one.priority]


def _delivery(
    queue: bytes, stream: bytes, entry: bytes, count: int, deliveries: int, id_: bytes, body: bytes, headers: bytes
) -> Delivery:
    return Delivery(
        queue=_text(queue),
        body=body,
        tag=(_text(stream), _text(entry)),
        token=count,
        id=_text(id_) or None,
        headers=json.loads(headers) if headers != b"{}" else {},
        deliveries=deliveries,
    )


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()

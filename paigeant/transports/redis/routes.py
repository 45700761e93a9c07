"""Exchanges, bindings and queue arguments in Redis, in such a way that a wiped Redis does not silently lose them.

Every process remembers what it has declared and what it has routed by. A random mark in the database tells whether it
is still the one this was declared in: when the mark is gone or another, and when another server answers, the process
declares everything again before it goes on.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import redis

from paigeant.errors import TransportError
from paigeant.transports.channel import routes
from paigeant.transports.redis import scripts
from paigeant.transports.redis.client import about

_AT_ONCE = 500
"""Declarations written or names read by one command."""

_NO_TIME = 1
"""Where a script is told the time and does not use it."""

Binding = tuple[str, str, str]
"""Exchange, queue, routing key."""


@dataclass(slots=True)
class Declared:
    """The declarations of this process in one database."""

    queues: dict[str, str] = field(default_factory=dict)
    exchanges: dict[str, str] = field(default_factory=dict)
    bindings: set[Binding] = field(default_factory=set)
    mark: bytes = b""
    server: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)


_declared: dict[tuple[str, str], Declared] = {}


def declared_in(address: str, prefix: str) -> Declared:
    """Return the declarations in this database, whichever connection made them."""
    return _declared.setdefault((address, prefix), Declared())


class RedisRoutes:
    """The routes of one database. Arguments and declarations are kept as JSON."""

    def __init__(self, client: redis.Redis, prefix: str, declared: Declared) -> None:
        self._redis: Any = client
        self._prefix = prefix
        self._known = declared
        self._script = client.register_script(scripts.text("write"))

    # --- keeping them --------------------------------------------------------------------------------------------

    def greet(self) -> str:
        """After connecting: another server, or one that was started again, may not have what was declared.

        Returns the name under which this run of the server goes.

        Raises:
            ConfigurationError: this Redis cannot be used.
        """
        server = str(about(self._redis).get("run_id", ""))
        with self._known.lock:
            if self._known.server != server:
                self.restore()
                self._known.server = server
        return server

    def check(self, mark: bytes) -> bool:
        """Whether the database is the one that was declared in; if not, it is from now on."""
        if mark and mark == self._known.mark:
            return True
        self.restore()
        return False

    def restore(self) -> None:
        """Declare everything again that this process knows of."""
        known = self._known
        with known.lock:
            commands: list[list[str]] = [["SADD", self._key("queues"), name] for name in known.queues]
            commands += [["HSETNX", self._key("arguments"), name, text] for name, text in known.queues.items()]
            commands += [["HSETNX", self._key("exchanges"), name, text] for name, text in known.exchanges.items()]
            commands += [
                ["SADD", self._bindings(exchange), json.dumps([queue, key])] for exchange, queue, key in known.bindings
            ]
            for start in range(0, len(commands), _AT_ONCE):
                self.write(*commands[start : start + _AT_ONCE])
            mark = ["SET", self._key("mark"), uuid4().hex, "NX"]
            known.mark = self.write(mark, ["GET", self._key("mark")])[1]

    def write(self, *commands: Sequence[str]) -> list[Any]:
        """Have the server carry out these commands, atomically and even when it is full; the answers."""
        words: list[Any] = []
        for command in commands:
            words += [len(command), *command]
        answers: list[Any] = self._script(args=[self._prefix, _NO_TIME, *words])
        return answers

    def _read(self, ask: Callable[[Any], object]) -> list[Any]:
        """The answers to what is asked, from a database that has what was declared."""
        while True:
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.get(self._key("mark"))
                ask(pipe)
                answers: list[Any] = pipe.execute()
            if self.check(answers[0] or b""):
                return answers[1:]

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def _bindings(self, exchange: str) -> str:
        return f"{self._prefix}bindings:{exchange}"

    # --- queues --------------------------------------------------------------------------------------------------

    def declare_queues(self, names: Iterable[str], arguments: Mapping[str, Any] | None = None) -> None:
        """Record the queues.

        Raises:
            TransportError: one of them was declared with other arguments.
        """
        wanted = json.dumps(dict(arguments or {}), sort_keys=True)
        for name in names:
            arguments_key = self._key("arguments")
            noting = ["SADD", self._key("queues"), name], ["HSETNX", arguments_key, name, wanted]
            found = self.write(*noting, ["HGET", arguments_key, name])[2].decode()
            if arguments and json.loads(found) != json.loads(wanted):
                raise routes.other_queue(name, json.loads(found))
            with self._known.lock:
                self._known.queues[name] = found

    def has_queue(self, name: str) -> bool:
        return bool(self._read(lambda pipe: pipe.sismember(self._key("queues"), name))[0])

    def queue_names(self) -> list[str]:
        """Return every queue that was declared or published to."""
        self._read(lambda pipe: None)
        names = self._redis.sscan_iter(self._key("queues"), count=_AT_ONCE)
        return sorted({name.decode(errors="replace") for name in names})

    def arguments_of(self, names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        if not names:
            return {}
        [found] = self._read(lambda pipe: pipe.hmget(self._key("arguments"), list(names)))
        return {name: _arguments(text) for name, text in zip(names, found, strict=True) if text}

    def forget_queue(self, name: str) -> None:
        """Forget the queue and its bindings; its messages are deleted elsewhere."""
        gone = [(exchange, queue, key) for queue, exchange, key in self.bindings_of() if queue == name]
        forgetting = [["SREM", self._bindings(exchange), json.dumps([queue, key])] for exchange, queue, key in gone]
        with self._known.lock:
            self.write(["SREM", self._key("queues"), name], ["HDEL", self._key("arguments"), name], *forgetting)
            self._known.queues.pop(name, None)
            self._known.bindings -= set(gone)

    # --- exchanges and bindings ----------------------------------------------------------------------------------

    def declare_exchange(self, name: str, kind: str, declared: Mapping[str, Any]) -> None:
        routes.check_type(name, kind)
        if name in routes.BORN:
            return
        wanted = json.dumps({"type": kind, **declared}, sort_keys=True)
        key = self._key("exchanges")
        found = self.write(["HSETNX", key, name, wanted], ["HGET", key, name])[1].decode()
        if json.loads(found) != json.loads(wanted):
            raise routes.other_exchange(name, json.loads(found))
        with self._known.lock:
            self._known.exchanges[name] = found

    def delete_exchange(self, name: str) -> None:
        with self._known.lock:
            self.write(["HDEL", self._key("exchanges"), name], ["DEL", self._bindings(name)])
            self._known.exchanges.pop(name, None)
            self._known.bindings = {one for one in self._known.bindings if one[0] != name}

    def type_of(self, exchange: str) -> str:
        return self._look_up(exchange)[0]

    def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        self.type_of(exchange)
        self.write(["SADD", self._bindings(exchange), json.dumps([queue, routing_key])])
        with self._known.lock:
            self._known.bindings.add((exchange, queue, routing_key))

    def unbind(self, queue: str, exchange: str, routing_key: str) -> None:
        with self._known.lock:
            self._known.bindings.discard((exchange, queue, routing_key))
        self.write(["SREM", self._bindings(exchange), json.dumps([queue, routing_key])])

    def bindings_of(self, exchange: str | None = None) -> list[tuple[str, str, str]]:
        if exchange is not None:
            return sorted((queue, exchange, key) for queue, key in self._look_up(exchange)[1])
        [found] = self._read(lambda pipe: pipe.hkeys(self._key("exchanges")))
        names = [*routes.BORN, *(name.decode(errors="replace") for name in found)]
        members = self._read(lambda pipe: [pipe.smembers(self._bindings(name)) for name in names])
        every = zip(names, members, strict=True)
        return sorted((queue, name, key) for name, bound in every for queue, key in _bound(bound))

    def targets(self, exchange: str, routing_key: str) -> list[str]:
        if not exchange:
            return [routing_key]
        kind, bound = self._look_up(exchange)
        return routes.reached(kind, bound, routing_key)

    def _look_up(self, exchange: str) -> tuple[str, list[tuple[str, str]]]:
        """The exchange's type, and its bindings as (queue, routing key). What was seen is remembered.

        Raises:
            TransportError: there is no such exchange.
        """

        def ask(pipe: Any) -> None:
            pipe.hget(self._key("exchanges"), exchange)
            pipe.smembers(self._bindings(exchange))

        declared, members = self._read(ask)
        bound = _bound(members)
        with self._known.lock:
            elsewhere = {one for one in self._known.bindings if one[0] != exchange}
            self._known.bindings = elsewhere | {(exchange, queue, key) for queue, key in bound}
            if declared is not None:
                self._known.exchanges[exchange] = declared.decode()
        if exchange in routes.BORN:
            return routes.BORN[exchange], bound
        if declared is None:
            with self._known.lock:
                self._known.exchanges.pop(exchange, None)
            raise routes.no_exchange(exchange)
        return str(_arguments(declared).get("type")), bound


def _arguments(text: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise TransportError(f"a declaration in Redis cannot be read: {text[:100]!r}", hint="delete it") from error
    return found if isinstance(found, dict) else {}


def _bound(members: Iterable[bytes]) -> list[tuple[str, str]]:
    """Return bindings as (queue, routing key)."""
    return sorted((str(queue), str(key)) for queue, key in map(json.loads, members))

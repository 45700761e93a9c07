"""How the roles of an SQL store share one database: one thread, one connection to write and one to read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from pydantic_core import PydanticSerializationError
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from paigeant.database import Database, retrying, unreachable_as
from paigeant.errors import StoreError, StoreRefused
from paigeant.events import Event
from paigeant.records.workflow import Owner
from paigeant.runtime import forks
from paigeant.runtime.clock import Clock
from paigeant.runtime.io_thread import IOThread
from paigeant.runtime.urls import masked
from paigeant.store.shared import Shared
from paigeant.stores.groups import Groups, Order, Request
from paigeant.stores.history import SqlLedger
from paigeant.stores.watch import Wait, Watch

T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 10.0
"""Seconds that a plain function waits for an answer."""


class Access:
    """The database of a store. The first use migrates it.

    All roles of a store call it from any event loop; one thread executes the calls. Between two calls, the thread looks
    whether a workflow that someone waits for has ended or advanced.
    """

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self.url = url
        self.owner: Owner | None = None
        self.database = Database(url, clock)
        self.ledger = SqlLedger(url)
        self.watch = Watch(self.database)
        self.news: list[Event] = []
        rest = (self._disconnect if self.database.path else _nothing) if self.database.is_sqlite else None
        self.thread = IOThread("paigeant-store", self._look, lambda: self.watch.fileno(), rest)
        self._groups = Groups(self.thread.post, lambda call: self.guarded(lambda: retrying(call)))
        self._groups.flushed = self._tell_news
        self._migrated = False
        forks.enlist(self)

    @cached_property
    def writer(self) -> Connection:
        """The connection that writes. Only the thread uses it."""
        return self.database.writer()

    @cached_property
    def reader(self) -> Connection:
        """The connection that reads. Only the thread uses it."""
        return self.database.reader()

    # --- the life of the connections -------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect and migrate, unless that is done."""
        if not self._migrated:
            await self.run(lambda: None)

    async def close(self) -> None:
        """Answer what was asked, close the connections and end the thread."""
        await self.thread.run(self._end)
        await asyncio.to_thread(self.thread.stop)

    def forget_after_fork(self) -> None:
        """Leave the connections to the parent process. A database in memory is the child's own copy."""
        self.database.forget_after_fork()
        if not self.database.in_memory:
            forks.keep(self.watch, *(self.__dict__.pop(name, None) for name in ("writer", "reader")))
        self.watch = Watch(self.database)

    def _end(self) -> None:
        """Close every connection and fail the open waits.

        All of it happens in one call of the thread, because a caller may ask again at once. That call connects anew (a
        database in memory starts empty), and nothing that follows here may close the new connection.
        """
        self._groups.flush()
        self._disconnect()
        self.database.dispose()
        self._migrated = False
        self.watch.fail(StoreError(f"the store {masked(self.url)} was closed"))

    def _disconnect(self) -> None:
        self.watch.forget()
        for name in ("writer", "reader"):
            connection = self.__dict__.pop(name, None)
            if connection is not None:
                connection.close()

    # --- single calls ----------------------------------------------------------------------------------------

    async def run(self, call: Callable[[], T]) -> T:
        """Run the call in the thread."""
        return await self.thread.run(lambda: self.guarded(call))

    async def read(self, call: Callable[[Connection], T]) -> T:
        """Run the call in the thread, with the connection that reads."""
        return await self.run(lambda: call(self.reader))

    async def in_transaction(self, call: Callable[[Connection, float], T]) -> T:
        """Run the call in a transaction of its own, with the connection that writes and the time of the database."""

        def called() -> T:
            with self.writer.begin():
                return call(self.writer, self.database.now_by(self.writer))

        return await self.run(lambda: retrying(called))

    def guarded(self, call: Callable[[], T]) -> T:
        """Run the call, in the thread. If the connection turns out to be broken, run it once more over a new one."""
        with unreachable_as(StoreError, f"cannot use the store {masked(self.url)}"):
            try:
                return self._connected(call)
            except (DataError, IntegrityError) as error:
                raise StoreRefused(f"the store {masked(self.url)} cannot take this: {error.orig}") from error
            except OverflowError as error:  # raised by SQLite's driver itself
                raise StoreRefused(f"the store {masked(self.url)} cannot take this: {error}") from error
            except (UnicodeEncodeError, PydanticSerializationError) as error:
                raise self._no_text(error) from error
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                self._migrated = False  # another database may answer now
            except StatementError as error:
                raise self._no_text(error.orig) from error
            return self._connected(call)

    def _no_text(self, error: BaseException | None) -> StoreRefused:
        return StoreRefused(f"the store {masked(self.url)} cannot take a text: {error}")

    def _connected(self, call: Callable[[], T]) -> T:
        try:
            if not self._migrated:
                self.database.migrate("stores")
                self._migrated = True
            if "reader" in self.__dict__:
                self.database.check(self.reader)
            return call()
        except Exception:
            self._disconnect()
            raise

    # --- groups ----------------------------------------------------------------------------------------------

    async def together(self, request: Request) -> Any:
        """Answer the request in one group with all requests of its kind that are made at the same time."""
        return await self._groups.ask(request)

    async def in_group(self, change: Callable[[Connection, Sequence[R], float], Sequence[T]], what: R) -> T:
        """Make a change in one transaction with all changes of its kind that are asked for at the same time."""
        value: T = await self.together(Request(Order.CHANGE, _Change(self, change), what))
        return value

    async def asked_together(self, look: Callable[[Connection, Sequence[R]], Sequence[T]], what: R) -> T:
        """Answer a question together with all questions of its kind that are asked at the same time.

        The answer sees everything that is recorded in the same batch.
        """
        value: T = await self.together(Request(Order.LOOK, _Look(self, look), what))
        return value

    # --- waiting ---------------------------------------------------------------------------------------------

    async def tell(self, events: Sequence[Event]) -> None:
        """Wake callers that wait for these events, in this process and in others."""
        await self.run(lambda: self.watch.tell(lambda: self.reader, events))

    async def wait_for(self, correlation_id: str, after: int | None) -> None:
        """Wait until the workflow has ended or, with ``after``, has an event beyond that offset."""
        wait = Wait(correlation_id, asyncio.get_running_loop().create_future(), after)
        try:
            await self.run(lambda: self.watch.add(wait))
            await wait.future
        finally:
            wait.future.cancel()  # the watch drops a wait whose future is done

    def _tell_news(self) -> None:
        news, self.news = self.news, []
        if news:
            self.watch.tell(lambda: self.reader, news)

    def _look(self) -> float | None:
        """Between two calls, answer the waits that are over. Returns how many seconds the thread may then sleep."""
        if not self.watch:
            return None
        try:
            self.guarded(lambda: self.watch.look(self.reader))
        except Exception as error:  # noqa: BLE001 - handed to the callers that wait
            self.watch.fail(error)
        return self.watch.pause


@dataclass(frozen=True, slots=True)
class _Look:
    """Answers a group of questions from the connection that reads."""

    access: Access
    look: Callable[[Connection, Sequence[Any]], Sequence[Any]]

    def __call__(self, whats: list[Any]) -> Sequence[Any]:
        return self.look(self.access.reader, whats)


@dataclass(frozen=True, slots=True)
class _Change:
    """Makes a group of changes in one transaction."""

    access: Access
    change: Callable[[Connection, Sequence[Any], float], Sequence[Any]]

    def __call__(self, whats: list[Any]) -> Sequence[Any]:
        writer = self.access.writer
        with writer.begin():
            return self.change(writer, whats, self.access.database.now_by(writer))


class Role(Shared):
    """One role of an SQL store. All roles of a store share its :class:`Access`, and nothing else."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.url = access.url

    @property
    def owner(self) -> Owner | None:
        return self.access.owner

    @owner.setter
    def owner(self, owner: Owner | None) -> None:
        self.access.owner = owner

    @property
    def clock(self) -> Clock:
        return self.access.database

    async def connect(self) -> None:
        await self.access.connect()

    async def close(self) -> None:
        await self.access.close()


def _nothing() -> None:
    """A database in memory is not closed, because its rows would be gone."""

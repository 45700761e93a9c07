"""How an SQL store reaches its database: by one thread, which owns one connection to write and one to read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

from pydantic_core import PydanticSerializationError
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from paigeant.clock import Clock
from paigeant.database import Database, retrying, unreachable_as
from paigeant.errors import StoreError, StoreRefused
from paigeant.io_thread import IOThread
from paigeant.stores.watch import Wait, Watch
from paigeant.urls import masked

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that a plain function waits for an answer."""


class Access:
    """The database of a store, migrated before its first use. Between two calls the thread looks for those who wait."""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self.url = url
        self._database = Database(url, clock)
        self._watch = Watch(self._database)
        self._thread = IOThread("paigeant-store", self._look, self._watch.fileno)
        self._migrated = False

    @cached_property
    def _writer(self) -> Connection:
        return self._database.writer()

    @cached_property
    def _reader(self) -> Connection:
        return self._database.reader()

    async def connect(self) -> None:
        if not self._migrated:
            await self._run(lambda: None)

    async def close(self) -> None:
        await self._thread.run(self._end)
        await asyncio.to_thread(self._thread.stop)
        self._database.dispose()
        self._migrated = False  # what was in memory is gone

    def _end(self) -> None:
        self._disconnect()

    def _disconnect(self) -> None:
        self._watch.forget()
        for name in ("_writer", "_reader"):
            connection = self.__dict__.pop(name, None)
            if connection is not None:
                connection.close()

    async def _run(self, call: Callable[[], T]) -> T:
        return await self._thread.run(lambda: self._guarded(call))

    def _guarded(self, call: Callable[[], T]) -> T:
        """Run the call in the thread; over a connection that turns out to be broken, once more over a new one."""
        with unreachable_as(StoreError, f"cannot use the store {masked(self.url)}"):
            try:
                return self._connected(call)
            except (DataError, IntegrityError) as error:
                raise StoreRefused(f"the store {masked(self.url)} cannot take this: {error.orig}") from error
            except (UnicodeEncodeError, PydanticSerializationError) as error:
                raise self._no_text(error) from error
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            except StatementError as error:
                raise self._no_text(error.orig) from error
            return self._connected(call)

    def _no_text(self, error: BaseException | None) -> StoreRefused:
        return StoreRefused(f"the store {masked(self.url)} cannot take a text: {error}")

    def _connected(self, call: Callable[[], T]) -> T:
        try:
            if not self._migrated:
                self._database.migrate("stores")
                self._migrated = True
            return call()
        except Exception:
            self._disconnect()
            raise

    async def _in_transaction(self, call: Callable[[Connection, float], T]) -> T:
        def called() -> T:
            with self._writer.begin():
                return call(self._writer, self._database.now())

        return await self._run(lambda: retrying(called))

    # --- waiting ---------------------------------------------------------------------------------------------

    async def _wait_for(self, correlation_id: str, after: int | None) -> None:
        wait = Wait(correlation_id, asyncio.get_running_loop().create_future(), after)
        try:
            await self._run(lambda: self._watch.add(wait))
            await wait.future
        finally:
            wait.future.cancel()  # whoever has gone is no longer looked after

    def _look(self) -> float | None:
        """Between two calls, the thread looks for those who wait; how long it may then sleep."""
        if not self._watch:
            return None
        try:
            self._guarded(lambda: self._watch.look(self._reader))
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            self._watch.fail(error)
        return self._watch.pause

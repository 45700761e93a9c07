"""How one thread uses a database that holds queues: two connections, transactions that are tried again, wake-ups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError

from paigeant.database import Database, retrying
from paigeant.database.listener import END, EVENT, LONGEST_SLEEP, QUEUE, Listener
from paigeant.events import LAST, Event

T = TypeVar("T")


class News:
    """What transactions bring for others, to be told when they are committed."""

    def __init__(self) -> None:
        self.queues: set[str] = set()
        self._soon: set[str] = set()
        self._moved: set[str] = set()
        self._ended: set[str] = set()

    def add(self, other: News) -> None:
        self.queues |= other.queues
        self._soon |= other._soon
        self._moved |= other._moved
        self._ended |= other._ended

    def came(self, queue: str, delay: float = 0.0) -> None:
        """A message waits in the queue now, or is due before anyone would look unasked."""
        if delay <= 0:
            self.queues.add(queue)
        elif delay <= LONGEST_SLEEP:
            self._soon.add(queue)

    def happened(self, events: Sequence[Event]) -> None:
        self._moved.update(event.correlation_id for event in events)
        self._ended.update(event.correlation_id for event in events if event.type in LAST)

    def by_topic(self) -> dict[str, set[str]]:
        return {QUEUE: self.queues | self._soon, END: self._ended, EVENT: self._moved}


class SqlSession:
    """The connections of one thread: they are opened when needed, and after any trouble opened again."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._listener = Listener(database)
        self._news = News()
        self._untold = News()

    @cached_property
    def _writer(self) -> Connection:
        return self.database.writer()

    @cached_property
    def _reader(self) -> Connection:
        return self.database.reader()

    def open(self) -> None:
        """Connect and bring the tables up to date."""
        self.database.migrate("transports")

    def disconnect(self) -> None:
        """Drop the connections; they are opened again when needed."""
        self._listener.forget()
        self._discard("_writer")
        self._discard("_reader")

    def _discard(self, name: str) -> None:
        connection: Connection | None = self.__dict__.pop(name, None)
        if connection is not None:
            if not self.database.in_memory:
                connection.invalidate()
            connection.close()

    def fileno(self) -> int | None:
        """The socket on which PostgreSQL wakes us. SQLite does not speak first."""
        return self._listener.fileno()

    def is_recoverable(self, error: BaseException) -> bool:
        """Whether connecting again and trying again can help."""
        if isinstance(error, DBAPIError) and (error.connection_invalidated or _is_demoted(error)):
            return True
        return isinstance(error, OperationalError | InterfaceError | PendingRollbackError | TimeoutError)

    def write(self, call: Callable[[Connection], T]) -> T:
        """Make the call in a transaction; again, while the database only asks for another try. Then tell others."""
        value = self._commit(call)
        self.finish()
        return value

    def _commit(self, call: Callable[[Connection], T]) -> T:
        """The same without telling others yet."""

        def transact() -> T:
            self._news = News()
            try:
                with self._writer.begin():
                    return call(self._writer)
            except BaseException:
                self._forget_doubtful()
                self._discard("_writer")  # SQLAlchemy does not roll back after a COMMIT that failed
                raise

        value = retrying(transact)
        self._untold.add(self._news)
        return value

    def _forget_doubtful(self) -> None:
        """A transaction broke: whether it was committed is unknown."""

    def finish(self) -> None:
        """Tell others what the last transactions bring for them."""
        untold, self._untold = self._untold, News()
        self._listener.tell(lambda: self._reader, untold.by_topic())

    def read(self, call: Callable[[Connection], T]) -> T:
        """Make the call; each of its statements sees the latest commit."""
        return call(self._reader)


def _is_demoted(error: DBAPIError) -> bool:
    """Whether the server has become a standby with our connections still open: the URL leads to another one now."""
    return getattr(error.orig, "sqlstate", None) == "25006"

"""How one thread uses a database of queues: two connections, repeated transactions, wake-ups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError

from paigeant.database import Database, retrying
from paigeant.database.listener import END, EVENT, LONGEST_SLEEP, QUEUE, Listener
from paigeant.errors import TransportError
from paigeant.events import LAST, Event
from paigeant.transports.pump.diagnosis import LOST, OURS, REFUSED, Diagnosis

T = TypeVar("T")


class News:
    """The queues to notify other processes of, once the transactions are committed."""

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
        """Note that a message waits in the queue, or is due before the next poll."""
        if delay <= 0:
            self.queues.add(queue)
        elif delay <= LONGEST_SLEEP:
            self._soon.add(queue)

    def happened(self, events: Sequence[Event]) -> None:
        self._moved.update(event.correlation_id for event in events)
        self._ended.update(event.correlation_id for event in events if event.type in LAST)

    def by_topic(self) -> dict[str, set[str]]:
        return {QUEUE: self.queues | self._soon, END: self._ended, EVENT: self._moved}


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction in progress: its connection, the queues to notify of, and its time."""

    writer: Connection
    news: News
    now: float


class SqlSession:
    """The connections of one thread. They are opened when needed, and again after any error."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._listener = Listener(database)
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
        self._discard("_writer")
        self.forget_reader()

    def _discard(self, name: str) -> None:
        connection: Connection | None = self.__dict__.pop(name, None)
        if connection is not None:
            if not self.database.in_memory:
                connection.invalidate()
            connection.close()

    def forget_reader(self) -> None:
        """Use a new connection for reading from now on."""
        self._listener.forget()
        self._discard("_reader")

    def fileno(self) -> int | None:
        """Return the socket on which wake-ups of PostgreSQL arrive. SQLite sends none."""
        return self._listener.fileno()

    obstacle: str | None = None

    def diagnose(self, error: BaseException) -> Diagnosis:
        """Return whether reconnecting and repeating can help. If not, one of the settlements is the cause."""
        if isinstance(error, DBAPIError) and (error.connection_invalidated or _is_demoted(error)):
            return LOST
        if isinstance(error, OperationalError | InterfaceError | PendingRollbackError | TimeoutError | TransportError):
            return LOST
        return OURS if isinstance(error, AttributeError | TypeError | NameError) else REFUSED

    def write(self, call: Callable[[Connection], T]) -> T:
        """Make the call in a transaction, repeated after passing errors. Then notify other processes."""
        value = self._commit(lambda at: call(at.writer))
        self.finish()
        return value

    def _commit(self, call: Callable[[Transaction], T]) -> T:
        """Make the call like :meth:`write`, without notifying other processes yet."""
        try:
            return self.transact(call)
        except BaseException:
            self._forget_doubtful()
            raise

    def transact(self, call: Callable[[Transaction], T]) -> T:
        """Make the call like :meth:`_commit`, for a transaction that may break without leaving anything in doubt."""

        def transact() -> tuple[T, News]:
            news = News()
            try:
                with self._writer.begin():
                    return call(Transaction(self._writer, news, self.database.now())), news
            except BaseException:
                self._discard("_writer")  # SQLAlchemy does not roll back after a COMMIT that failed
                raise

        value, news = retrying(transact)
        self._untold.add(news)
        return value

    def _forget_doubtful(self) -> None:
        """Forget cached state, because a transaction broke and may or may not be committed."""

    def finish(self) -> None:
        """Notify other processes of the last transactions."""
        untold, self._untold = self._untold, News()
        self._listener.tell(lambda: self._reader, untold.by_topic())

    def read(self, call: Callable[[Connection], T]) -> T:
        """Make the call. Each of its statements sees the latest commit."""
        self.database.check(self._reader)
        return call(self._reader)


def _is_demoted(error: DBAPIError) -> bool:
    """Return whether the server has become a standby: the URL then leads to another server."""
    return getattr(error.orig, "sqlstate", None) == "25006"

"""Connections to PostgreSQL: to the server itself or through a pooler. None waits for ever.

``tcp_user_timeout`` and keepalives notice a server that is gone. Behind a proxy or a balancer that takes what is sent
and passes nothing on, the connection looks well, and psycopg waits for an answer without end.

A pooler in transaction mode gives each transaction another session of the server, and the session that somebody else
used before. So nothing may be set for a session there, nothing may be prepared in one, and no option may be asked for
at the start, which poolers refuse: each transaction sets its own limits.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, Self

import psycopg
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool, PoolProxiedConnection

from paigeant.errors import ConfigurationError

_PARAMETERS = {
    "client_encoding": "utf8",
    "connect_timeout": 3,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""Limits that make a dead server an error in seconds rather than a wait for ever; the URL's own go before them."""

_SETTLING = 5.0
"""Seconds for the first question on a connection: no longer than connecting may take."""

_LONGEST_PAUSE = 60.0
"""Seconds that a transaction may stay open between two statements before the server ends it."""


def engine_of(url: URL, longest_statement: float, answer_within: float) -> Engine:
    """Return an engine whose statements end after these seconds. No answer a moment later is an error."""
    parameters = {name: value for name, value in _PARAMETERS.items() if name not in url.query}
    engine = create_engine(url, poolclass=NullPool, connect_args=parameters)
    limits = _limits(str(url.query.get("options", "")), longest_statement)

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: object, _record: object, arguments: Any, options: Any) -> Session:
        return Session.open(limits, answer_within, arguments, options)

    # Not a listener for "begin": where there is one, SQLAlchemy looks for others at every statement.
    setattr(engine.dialect, "do_begin", _begin)  # noqa: B010 - a method
    return engine


def _limits(options: str, longest_statement: float) -> dict[str, int]:
    """Return milliseconds by the name of the server's setting. Settings in the URL stay unchanged."""
    ours = {"statement_timeout": longest_statement, "idle_in_transaction_session_timeout": _LONGEST_PAUSE}
    return {name: round(seconds * 1000) for name, seconds in ours.items() if name not in options}


def _begin(connection: PoolProxiedConnection) -> None:
    driver: Any = connection.driver_connection
    driver.limit_transaction()


class Session(psycopg.Connection[Any]):
    """A connection on which a statement that was not answered in time is an ``OperationalError``."""

    answer_within = float("inf")
    is_pooled = False
    """Whether the session at the server is not ours alone."""
    _limits_of_each = ""

    @classmethod
    def open(cls, limits: dict[str, int], answer_within: float, arguments: Any, options: dict[str, Any]) -> Self:
        """Connect.

        Raises:
            ConfigurationError: the database is not UTF-8.
        """
        opened = cls.connect(*arguments, **options)
        opened.answer_within = _SETTLING
        try:
            opened._settle_in(limits)
        except BaseException:
            opened.close()
            raise
        opened.answer_within = answer_within
        return opened

    def _settle_in(self, limits: dict[str, int]) -> None:
        """Find out whether a pooler answers, and set the limits for the session if there is none.

        A pooler invents the number of the process that it tells its clients; the server knows its own.
        """
        pid = self.info.backend_pid
        settings = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in limits.items())
        ours = f"CASE WHEN pg_backend_pid() = {pid} THEN ({_row(settings)}) IS NOT NULL ELSE false END"
        self.autocommit = True
        row = self.execute(f"SELECT current_setting('server_encoding'), {ours}", prepare=False).fetchone()
        self.autocommit = False
        encoding, is_ours = row or ("", False)
        _refuse_encoding(encoding, self.info.dbname)
        if not is_ours:
            self.is_pooled = True
            self.prepare_threshold = None
            self._limits_of_each = "; ".join(f"SET LOCAL {name} = {value}" for name, value in limits.items())

    def limit_transaction(self) -> None:
        """Begin a transaction with the limits, because its session belongs to another client afterwards."""
        if self._limits_of_each and not self.autocommit:
            self.execute(self._limits_of_each, prepare=False)

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().wait(_bounded(gen, self.answer_within), *args, **kwargs)
        except _Silence:
            self.pgconn.finish()  # it is of no use any more, and whoever asks is told so
            raise


def _row(settings: str) -> str:
    return f"SELECT ROW({settings})" if settings else "SELECT true"


def _refuse_encoding(encoding: str, database: str) -> None:
    if encoding != "UTF8":
        raise ConfigurationError(
            f"the PostgreSQL database {database!r} has the encoding {encoding}, which cannot take every text",
            hint=f"create another one and use its URL: createdb --encoding=UTF8 --template=template0 {database}_utf8",
        )


class _Silence(psycopg.OperationalError):
    """The server did not answer."""


def _bounded(steps: Generator[Any, Any, Any], seconds: float) -> Generator[Any, Any, Any]:
    """psycopg's steps of a conversation, which are resumed every tenth of a second, until the time is over."""
    give_up = time.monotonic() + seconds
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > give_up:
                raise _Silence(f"no answer for {seconds:g} s: is the server reachable?")
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value

"""How an SqlQueue notices messages that other processes publish, and what it does while idle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers import until
from sqlalchemy import event
from transports.sql_queues import bodies, claim, release, send

from paigeant.database.listener import LONGEST_SLEEP
from paigeant.transports.sql.queue import SqlQueue


def test_what_another_process_publishes_is_noticed(make_queue: Callable[..., SqlQueue]) -> None:
    """This holds even if the last poll found nothing."""
    ours, theirs = make_queue(), make_queue()
    for number in range(3):
        assert claim(ours) == []
        send(theirs, f"m{number}".encode())
        assert bodies(claim(ours)) == [f"m{number}".encode()]


def test_what_came_while_there_was_no_room_is_noticed_later(make_queue: Callable[..., SqlQueue]) -> None:
    """A poll without room must not mark the message as seen."""
    ours, theirs = make_queue(), make_queue()
    assert claim(ours) == []
    send(theirs, b"m")
    assert claim(ours, 0) == []
    assert bodies(claim(ours)) == [b"m"]


def test_what_another_process_delays_or_gives_back_is_noticed(make_queue: Callable[..., SqlQueue], clock: Any) -> None:
    """Time passes without a commit, so the queue must know the due time."""
    ours, theirs = make_queue(), make_queue()
    send(theirs, b"later", delay=10)
    assert claim(ours) == []
    clock.advance(11)
    [delivery] = claim(ours)
    assert claim(theirs) == []
    release(ours, delivery)
    assert bodies(claim(theirs)) == [b"later"]


@contextlib.contextmanager
def executed(queue: SqlQueue) -> Iterator[list[str]]:
    """The statements that SQLAlchemy executes during the block."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    engines = (queue.database.engine, queue.database._reading)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield statements
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


def test_an_idle_look_writes_nothing(make_queue: Callable[..., SqlQueue]) -> None:
    """Idle workers do not wake each other: they commit nothing and change no version."""
    ours, theirs = make_queue(), make_queue()
    claim(ours), claim(theirs)
    before = ours.database.version_of(ours._reader)
    assert claim(theirs) == []
    if ours.database.is_sqlite:
        assert ours.database.version_of(ours._reader) == before


def asleep(queue: SqlQueue) -> SqlQueue:
    """The queue once it is idle and has seen everything."""
    until(lambda: claim(queue) == [] and queue.patience == LONGEST_SLEEP)
    assert queue.glances is not None
    until(lambda: not queue.glances.has_news())
    return queue


def test_between_its_looks_an_idle_worker_only_glances(sqlite_url: str, made: Callable[..., SqlQueue]) -> None:
    """It executes nothing until another process writes; then it polls within one glance."""
    queue, other = asleep(made(sqlite_url, "q")), made(sqlite_url, "q")
    assert queue.glances is not None
    assert queue.glances.every <= queue.poll[1] < queue.patience
    asleep(queue)
    with executed(queue) as statements:
        assert [queue.glances.has_news() for _ in range(50)] == [False] * 50
    assert statements == []
    send(other, b"m")
    assert queue.glances.has_news()
    assert bodies(claim(queue)) == [b"m"]


def test_a_worker_does_not_sleep_over_what_is_due(sqlite_url: str, made: Callable[..., SqlQueue]) -> None:
    """The time since its last poll counts."""
    queue = made(sqlite_url, "q")
    send(queue, b"late", delay=0.4)
    until(lambda: claim(queue) == [] and queue.patience != queue.poll[0])
    assert queue.patience <= 0.4


def test_a_new_connection_is_news(sqlite_url: str, made: Callable[..., SqlQueue]) -> None:
    """The version number of one connection means nothing to the next one."""
    queue, other = asleep(made(sqlite_url, "q")), made(sqlite_url, "q")
    send(other, b"m")
    queue.disconnect()
    assert queue.glances is not None
    assert queue.glances.has_news()


@pytest.mark.parametrize("names", [(), ("q",)])
def test_only_a_worker_on_a_file_glances(
    sqlite_url: str, made: Callable[..., SqlQueue], names: tuple[str, ...]
) -> None:
    """A process that only sends polls for nothing; a database in memory has one connection."""
    queue, in_memory = made(sqlite_url, *names), made("sqlite://", "q")
    assert (queue.glances is not None) == bool(names)
    assert in_memory.glances is None

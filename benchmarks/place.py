"""Where one measurement takes place: names and scratch resources that nothing else uses."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

RABBITMQ = "amqp://guest:guest@127.0.0.1:5672//"
POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"

_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What the process that dispatches and the worker both know, handed on as ``BENCH_*`` variables."""

    system: str
    prefix: str
    directory: str
    marks: str
    rabbitmq: str
    redis: str
    postgres: str

    def environment(self) -> dict[str, str]:
        return {f"BENCH_{field.name.upper()}": getattr(self, field.name) for field in fields(self)}

    @property
    def sqlite(self) -> str:
        """A database file of its own."""
        return f"sqlite:///{self.directory}/bench.db"


def gather_statistics(place: Place) -> None:
    """Tell PostgreSQL what is in the tables, as it would know of a database that is older than a minute."""
    if place.postgres:
        _on_server(place.postgres, "ANALYZE")


def here() -> Place:
    """The place that this process was started for."""
    return Place(**{field.name: os.environ[f"BENCH_{field.name.upper()}"] for field in fields(Place)})


@contextmanager
def scratch(system: str, servers: dict[str, str], needs: frozenset[str]) -> Iterator[Place]:
    """A directory, a queue prefix, a PostgreSQL database and an empty Redis database, gone afterwards.

    Queues on RabbitMQ carry the prefix and are deleted by the adapter, which knows their names.
    """
    prefix = f"pgtbench{uuid.uuid4().hex[:8]}"
    directory = tempfile.mkdtemp(prefix=f"{prefix}-")
    marks = (_MEMORY if _MEMORY.is_dir() else Path(directory)) / f"{prefix}.marks"
    try:
        yield Place(
            system=system,
            prefix=prefix,
            directory=directory,
            marks=str(marks),
            rabbitmq=servers["rabbitmq"],
            redis=servers["redis"],
            postgres=_create_database(servers["postgresql"], prefix) if "postgresql" in needs else "",
        )
    finally:
        marks.unlink(missing_ok=True)
        shutil.rmtree(directory, ignore_errors=True)
        if "postgresql" in needs:
            _drop_database(servers["postgresql"], prefix)
        if "redis" in needs and servers["redis"]:
            _empty_redis(servers["redis"])


def _create_database(server: str, name: str) -> str:
    _on_server(server, f'CREATE DATABASE "{name}"')
    return f"{server.rpartition('/')[0]}/{name}"


def _drop_database(server: str, name: str) -> None:
    _on_server(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _on_server(server: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(server, autocommit=True, connect_timeout=5) as connection:
        connection.execute(statement)


def _empty_redis(url: str) -> None:
    """Only ever called for a database that was empty when the run began: see servers.py."""
    import redis

    with redis.Redis.from_url(url, socket_timeout=30) as client:
        client.flushdb()

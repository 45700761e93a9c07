"""The servers of a run: a Redis of its own that keeps what it is told, and what the others are."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class ServerMissing(Exception):
    """A server is not there or cannot be used; says which and why."""


@contextmanager
def redis_server(url: str | None, *, wanted: bool) -> Iterator[str]:
    """A Redis with an append-only file, started for this run; or the one at the URL, whose database must be empty.

    Gives an empty URL when there is neither, or none is wanted, or the URL is empty.
    """
    if not wanted or url == "":
        yield ""
        return
    if url is not None:
        _require_empty(url)
        yield url
        return
    program = shutil.which("redis-server")
    if program is None:
        yield ""
        return
    with tempfile.TemporaryDirectory(prefix="pgtbench-redis-") as directory:
        port = free_port()
        durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        where = ["--port", str(port), "--bind", "127.0.0.1", "--dir", directory]
        process = subprocess.Popen([program, *where, *durable], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(port, process)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(30)


def describe(servers: dict[str, str], needed: Collection[str], *, private_redis: bool) -> dict[str, str]:
    """Version and durability of each needed server, for the record; the reason where one cannot be asked."""
    asked = {"redis": _describe_redis, "postgresql": _describe_postgres, "rabbitmq": _describe_rabbitmq}
    described = {}
    for name, ask in asked.items():
        if name not in needed:
            continue
        try:
            described[name] = ask(servers[name])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the record should say
            described[name] = f"not available: {type(error).__name__}"
    if private_redis and servers["redis"] and "redis" in described:
        described["redis"] += ", started for this run"
    return described


def _describe_redis(url: str) -> str:
    import redis

    if not url:
        raise ServerMissing("no redis-server on the PATH and no --redis")
    with redis.Redis.from_url(url, socket_timeout=5) as client:
        append_only = client.config_get("append*")
        kept = f"append-only file, fsync {append_only['appendfsync']}"
        return f"{client.info('server')['redis_version']}, " + (
            kept if append_only["appendonly"] == "yes" else "NO append-only file: nothing survives its restart"
        )


def _describe_postgres(url: str) -> str:
    import psycopg

    with psycopg.connect(url, connect_timeout=5) as connection:
        version, fsync, commit = [
            connection.execute(f"SHOW {name}").fetchone()[0]
            for name in ("server_version", "fsync", "synchronous_commit")
        ]
    return f"{version.split()[0]}, fsync {fsync}, synchronous_commit {commit}"


def _describe_rabbitmq(url: str) -> str:
    from kombu import Connection

    with Connection(url, connect_timeout=5) as connection:
        connection.connect()
        version = connection.connection.server_properties["version"]
        return f"{version}, persistent messages; classic queues, but for paigeant's quorum queues"


def _require_empty(url: str) -> None:
    import redis

    with redis.Redis.from_url(url, socket_timeout=5) as client:
        if keys := client.dbsize():
            raise ServerMissing(
                f"the Redis database holds {keys} keys, and it is emptied after each measurement; name an empty one"
            )


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """
    Raises:
        ServerMissing: it has ended, or does not listen after ten seconds.
    """
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise ServerMissing(f"{Path(str(process.args[0])).name} did not start")

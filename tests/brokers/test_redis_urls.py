"""Redis behind sentinels and behind TLS, as the URL says."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers.conftest import started
from brokers.servers import RedisServer, Server, free_port
from helpers import until

from paigeant.errors import ConfigurationError, TransportError
from paigeant.transport import Delivery, Outgoing
from paigeant.transports import get_transport
from paigeant.transports.redis.client import connect

redis = pytest.importorskip("redis")


class Replica(RedisServer):
    """Follows a master, and may become one."""

    master = 0

    def _command(self) -> list[str]:
        return [*super()._command(), "--replicaof", f"127.0.0.1 {self.master}"]


class SentinelServer(Server):
    """Watches over one master and decides alone."""

    is_installed = shutil.which("redis-server") is not None
    master = 0

    @property
    def url(self) -> str:
        return f"sentinel://127.0.0.1:{self.port}/0?master_name=paigeant"

    def _command(self) -> list[str]:
        config = self.folder / "sentinel.conf"
        if not config.exists():
            config.write_text(
                f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
                f"sentinel monitor paigeant 127.0.0.1 {self.master} 1\n"
                "sentinel down-after-milliseconds paigeant 1000\nsentinel failover-timeout paigeant 5000\n"
            )
        return ["redis-server", str(config), "--sentinel"]

    def _is_ready(self) -> bool:
        with redis.Redis(port=self.port, socket_timeout=1) as client:
            try:
                return int(client.sentinel_master("paigeant")["num-slaves"]) > 0
            except redis.RedisError:
                return False


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[RedisServer, SentinelServer]]:
    """A master with a replica, and their sentinel."""
    servers: list[Server] = []

    def start(kind: type[Server], name: str, master: int = 0) -> Any:
        named = type(kind.__name__, (kind,), {"master": master})
        servers.append(started(named, tmp_path / name))
        return servers[-1]

    try:
        master = start(RedisServer, "master")
        start(Replica, "replica", master.port)
        yield master, start(SentinelServer, "sentinel", master.port)
    finally:
        for server in servers:
            server.close()


async def _take(url: str, queue: str, then: Callable[[Any, Delivery], Any]) -> bytes:
    transport = get_transport(url)
    async for batch in transport.consume([queue], 1):
        for delivery in batch:
            await then(transport, delivery)
            return delivery.body
    raise AssertionError("the flow has ended")


@pytest.mark.slow
def test_a_replica_takes_over_and_the_transport_follows(watched: tuple[RedisServer, SentinelServer]) -> None:
    """The sentinels are asked again for every new connection: nobody has to be started again."""
    master, sentinel = watched

    async def scenario() -> None:
        transport = get_transport(sentinel.url)
        try:
            await transport.send([Outgoing(queue="q", body=b"before")])
            until(lambda: _has(master, 1), 10)
            await asyncio.to_thread(master.kill)
            assert await _take(sentinel.url, "q", lambda one, delivery: one.settle(delivery)) == b"before"
            await transport.send([Outgoing(queue="q", body=b"after")])
            assert await _take(sentinel.url, "q", lambda one, delivery: one.settle(delivery)) == b"after"
        finally:
            await transport.close()

    asyncio.run(asyncio.wait_for(scenario(), 90))


def _has(master: RedisServer, replicas: int) -> bool:
    """Whether so many replicas have everything."""
    with redis.Redis(port=master.port, socket_timeout=5) as client:
        client.set("mark", "x")
        return bool(client.wait(replicas, 1000) >= replicas)


# --- TLS ----------------------------------------------------------------------------------------------------------


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - datetime.timedelta(days=1),
        not_valid_after=now + datetime.timedelta(days=1),
    )
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    paths = folder / "redis.pem", folder / "redis.key"
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


class TlsRedis(RedisServer):
    """Redis that speaks nothing but TLS."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.plain = free_port()
        self.certificate, self.key = certificate(folder)

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}/0"

    def _command(self) -> list[str]:
        command = super()._command()
        command[command.index("--port") + 1] = "0"
        options = {"tls-port": self.port, "tls-cert-file": self.certificate, "tls-key-file": self.key}
        options |= {"tls-auth-clients": "no"}
        return [*command, *(str(part) for name, value in options.items() for part in (f"--{name}", value))]

    def _is_ready(self) -> bool:
        with redis.Redis(port=self.port, socket_timeout=1, ssl=True, ssl_cert_reqs="none") as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[TlsRedis]:
    server = started(TlsRedis, tmp_path / "tls")
    yield server  # type: ignore[misc]
    server.close()


@pytest.mark.parametrize("required", ["CERT_REQUIRED", "required"])
def test_messages_go_over_tls(tls: TlsRedis, required: str) -> None:
    """By the options that redis-py and kombu read from the URL."""
    url = f"{tls.url}?ssl_ca_certs={tls.certificate}&ssl_cert_reqs={required}"

    async def scenario() -> bytes:
        transport = get_transport(url)
        try:
            await transport.send([Outgoing(queue="q", body=b"secret")])
            return await _take(url, "q", lambda one, delivery: one.settle(delivery))
        finally:
            await transport.close()

    assert asyncio.run(asyncio.wait_for(scenario(), 60)) == b"secret"


def test_a_certificate_that_nobody_vouches_for_is_refused(tls: TlsRedis) -> None:
    """Unless it is said that it does not matter."""
    with pytest.raises(redis.ConnectionError, match=r"(?i)certificate"):
        connect(tls.url).ping()
    assert connect(f"{tls.url}?ssl_cert_reqs=CERT_NONE&ssl_check_hostname=false").ping()


# --- what the URL says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://:secret@a:1,b:2,c/3?master_name=m",
        "sentinel://:secret@a:1;b:2;c/3?master_name=m",
        "sentinel://:secret@a:1;sentinel://:secret@b:2;sentinel://:secret@c/3?master_name=m",
        "sentinel://:secret@a:1/3;sentinel://:secret@b:2/3;sentinel://:secret@c/3?master_name=m",
    ],
)
def test_sentinels_are_written_in_several_ways(url: str) -> None:
    """As we write them, and as kombu does."""
    pool: Any = connect(url).connection_pool
    sentinels = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"]) for one in sentinels] == [("a", 1), ("b", 2), ("c", 26379)]
    assert pool.service_name == "m"
    assert (pool.connection_kwargs["password"], pool.connection_kwargs["db"]) == ("secret", 3)


def test_what_cannot_be_understood_is_said() -> None:
    """Before anything connects."""
    with pytest.raises(ConfigurationError, match="master_name"):
        connect("sentinel://a:1/0")
    with pytest.raises(ConfigurationError, match="needs a host"):
        connect("sentinel://a:1,:2/0?master_name=m")


@pytest.mark.endurance
def test_sentinels_that_do_not_answer_are_a_transport_error() -> None:
    """Told to whoever waits."""
    url = f"sentinel://127.0.0.1:{free_port()}/0?master_name=m"

    async def scenario() -> None:
        transport = get_transport(url)
        try:
            await transport.connect()
        finally:
            await transport.close()

    with pytest.raises(TransportError, match="cannot use the broker"):
        asyncio.run(asyncio.wait_for(scenario(), 60))

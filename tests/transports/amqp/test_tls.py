"""RabbitMQ over TLS: who answers must be who the URL names."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from helpers import until

from paigeant.errors import ConfigurationError
from paigeant.transports import _plan, get_transport

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
"""What a client says first (AMQP 0-9-1, section 4.2.2): who gets it was trusted."""


def certificate(folder: Path, name: x509.GeneralName) -> tuple[Path, Path]:
    """One that signs itself, and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a broker")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name.value}.pem", folder / f"{name.value}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    clear = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, clear))
    return paths


@dataclass
class Server:
    """Speaks TLS, hears the first words and hangs up."""

    certificate: Path
    key: Path
    heard: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            client.settimeout(10)
            try:
                with context.wrap_socket(client, server_side=True) as spoken:
                    self.heard.append(spoken.recv(len(PROTOCOL_HEADER)))
            except OSError:
                self.heard.append(b"")

    def first_words(self) -> set[bytes]:
        until(lambda: self.heard)
        return set(self.heard)

    def close(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.thread.join(10)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Server]:
    server = Server(*certificate(tmp_path, x509.IPAddress(ipaddress.ip_address("127.0.0.1"))))
    yield server
    server.close()


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[Server]:
    """Its certificate is one that is trusted, and another's."""
    server = Server(*certificate(tmp_path, x509.DNSName("somebody.example")))
    yield server
    server.close()


def connect(url: str) -> Exception:
    """What came of connecting as the transport does."""
    _, connection = _plan(url, lease_seconds=10)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - nobody here speaks AMQP, so something is always raised
        connection().connect()
    return caught.value


def test_the_broker_of_the_url_is_spoken_to(broker: Server) -> None:
    connect(f"amqps://guest:guest@127.0.0.1:{broker.port}//?ssl_ca_certs={broker.certificate}")

    assert broker.first_words() == {PROTOCOL_HEADER}


def test_an_unknown_authority_is_told_nothing(broker: Server) -> None:
    error = connect(f"amqps://guest:guest@127.0.0.1:{broker.port}//")

    assert "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert broker.first_words() == {b""}


def test_a_certificate_of_another_name_is_told_nothing(impostor: Server) -> None:
    """kombu alone would talk to it."""
    error = connect(f"amqps://guest:guest@127.0.0.1:{impostor.port}//?ssl_ca_certs={impostor.certificate}")

    assert "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert impostor.first_words() == {b""}


def test_so_is_the_second_server_of_a_cluster(impostor: Server, tmp_path: Path) -> None:
    """Each server is held to its own name, after a failover as well."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        nobody = unused.getsockname()[1]
    url = f"amqps://127.0.0.1:{nobody}//?ssl_ca_certs={impostor.certificate};amqps://127.0.0.1:{impostor.port}//"
    _, connection = _plan(url, lease_seconds=10)
    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
        connection().ensure_connection(max_retries=1, interval_start=0)

    assert impostor.first_words() == {b""}


def test_who_asks_for_it_trusts_anybody(impostor: Server) -> None:
    connect(f"amqps://127.0.0.1:{impostor.port}//?ssl_cert_reqs=none")

    assert impostor.first_words() == {PROTOCOL_HEADER}


@pytest.mark.parametrize(
    ("query", "said"),
    [("ssl_cert_reqs=perhaps", "has no meaning"), ("ssl_ca_certs=/nowhere.pem", "which is not there")],
)
def test_what_cannot_be_meant_is_refused(query: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        get_transport(f"amqps://127.0.0.1:1//?{query}")

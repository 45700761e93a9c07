"""Transports by URL."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from kombu.transport import TRANSPORT_ALIASES

from paigeant.config import load_settings
from paigeant.errors import ConfigurationError
from paigeant.transport import BaseTransport, Durability, Features
from paigeant.urls import DATABASES, is_database_url, masked

if TYPE_CHECKING:
    from kombu import Connection

_SQL = Features(
    durability=Durability.TRANSACTIONAL,
    delay=True,
    priority=True,
    fenced=True,
    delivery_count=True,
    joins_store=True,
)
_MEMORY = Features(durability=Durability.VOLATILE)
_ACKNOWLEDGED = Features(durability=Durability.AT_LEAST_ONCE, delay=True, delivery_count=True)
_STREAMS = Features(
    durability=Durability.TRANSACTIONAL, delay=True, priority=True, fenced=True, delivery_count=True, dedupes=True
)
_BEST_EFFORT = Features(durability=Durability.BEST_EFFORT)

_KOMBUS_OWN = "kombu+"
"""Before a scheme: kombu's transport, where paigeant has a better one."""

_NAMES = {"memory": "memory://", "inmemory": "memory://", "in-memory": "memory://"}
"""Short names that documents use for a URL."""

_ACKNOWLEDGING = ("amqp", "amqps", "pyamqp")
"""kombu transports that keep a message until it is acknowledged (measured: docs/explanation/durability.md)."""

# For kombu programs: Connection("paigeant+sqlite:///queue.db"), Connection("redis-streams+redis://localhost/0").
TRANSPORT_ALIASES.setdefault("paigeant", "paigeant.transports.sql:Transport")
TRANSPORT_ALIASES.setdefault("redis-streams", "paigeant.transports.redis:Transport")

_DRIVERS = {
    "redis": ("redis", '"paigeant[redis]"'),
    "rediss": ("redis", '"paigeant[redis]"'),
    "sentinel": ("redis", '"paigeant[redis]"'),
    "postgresql": ("psycopg", '"paigeant[postgres]"'),
    "postgres": ("psycopg", '"paigeant[postgres]"'),
    "sqs": ("boto3", "boto3 pycurl"),
    "SQS": ("boto3", "boto3 pycurl"),
    "gcpubsub": ("google", "google-cloud-pubsub google-cloud-monitoring grpcio"),
    "azureservicebus": ("azure", "azure-servicebus azure-identity"),
    "azurestoragequeues": ("azure", "azure-storage-queue azure-identity"),
    "confluentkafka": ("confluent_kafka", "confluent-kafka"),
    "kafka": ("confluent_kafka", "confluent-kafka"),
    "mongodb": ("pymongo", "pymongo"),
    "zookeeper": ("kazoo", "kazoo"),
    "consul": ("consul", "python-consul2"),
    "etcd": ("etcd", "python-etcd"),
    "pgmq": ("pgmq", "pgmq"),
}
"""What a scheme's transport imports beyond kombu, and what to install for it."""

_instances: dict[str, BaseTransport] = {}
_lock = threading.Lock()


class BestEffortWarning(UserWarning):
    """Messages on this broker may be lost or late when a worker dies."""


def get_transport(url: str | None = None, *, lease_seconds: float | None = None) -> BaseTransport:
    """The transport for a broker URL, one instance per URL and process; default: the broker of the settings.

    ``"memory"`` and ``"inmemory"`` are short for ``memory://``, whose messages live in this process only.

    Raises:
        ConfigurationError: for a URL no transport knows.
    """
    address, lease = _address(url, lease_seconds)
    with _lock:
        if address not in _instances:
            _instances[address] = _make(address, lease)
        return _instances[address]


def new_transport(url: str | None = None, *, lease_seconds: float | None = None) -> BaseTransport:
    """As :func:`get_transport`, but one that is shared with nobody."""
    return _make(*_address(url, lease_seconds))


def _address(url: str | None, lease_seconds: float | None) -> tuple[str, float]:
    settings = load_settings(broker_url=url, lease_seconds=lease_seconds)
    return _NAMES.get(settings.broker_url, settings.broker_url), settings.lease_seconds


def forget(transport: BaseTransport) -> None:
    """Let the next :func:`get_transport` make a new instance."""
    with _lock:
        for url in [url for url, known in _instances.items() if known is transport]:
            del _instances[url]


def _make(url: str, lease_seconds: float) -> BaseTransport:
    from paigeant.transports.kombu import KombuTransport

    features, connection = _plan(url, lease_seconds)
    return KombuTransport(url, features, connection)


def _plan(url: str, lease_seconds: float) -> tuple[Features, Callable[[], Connection]]:
    """What the broker can do, and how to connect to it."""
    scheme = scheme_of(url)
    _need_driver(scheme)
    if is_database_url(url):
        return _SQL, partial(_connection, f"paigeant+{url}", lease_seconds=lease_seconds)
    if scheme == "memory":
        return _MEMORY, partial(_connection, url)
    if scheme in ("redis", "rediss", "sentinel"):
        kind = "paigeant.transports.redis:Transport"
        return _STREAMS, partial(_connection, url, kind, lease_seconds=lease_seconds)
    url = url.removeprefix(_KOMBUS_OWN)
    if scheme in _ACKNOWLEDGING:
        return _ACKNOWLEDGED, partial(_connection, url)
    warnings.warn(
        f"{masked(url)}: messages may be lost or late when a worker dies; if they matter, use another broker",
        BestEffortWarning,
        stacklevel=4,
    )
    return _BEST_EFFORT, partial(_connection, url)


def _need_driver(scheme: str) -> None:
    """Raise ConfigurationError when what the scheme needs is not installed."""
    driver = _DRIVERS.get(scheme.removeprefix(_KOMBUS_OWN).partition("+")[0])
    if driver is None:
        return
    module, needs = driver
    if find_spec(module) is None:
        raise ConfigurationError(f"{scheme}:// needs {module}, which is not installed", hint=f"pip install {needs}")


def _connection(url: str, transport: str | None = None, **options: Any) -> Connection:
    """A connection that tries twice at once and then says no: trying again is the bridge's business."""
    from kombu import Connection

    patience = {"max_retries": 1, "interval_start": 0, "interval_step": 0}
    return Connection(url, transport=transport, transport_options=patience | options, connect_timeout=5, heartbeat=30)


def scheme_of(url: str) -> str:
    """The URL's scheme.

    Raises:
        ConfigurationError: for one that nothing here or in kombu knows, with the nearest known one.
    """
    scheme, separator, _ = url.removeprefix(_KOMBUS_OWN).partition("://")
    if separator and (scheme.split("+")[0] in DATABASES or scheme in TRANSPORT_ALIASES):
        return url.partition("://")[0]
    known = [*DATABASES, *TRANSPORT_ALIASES]
    near = get_close_matches(scheme, known, n=1)
    hint = f"did you mean {near[0]}://?" if near else "for example sqlite:///paigeant.db or amqp://localhost"
    raise ConfigurationError(f"unknown broker {masked(url)!r}: no transport for {scheme!r}", hint=hint)

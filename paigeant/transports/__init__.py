"""Transports by URL."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from kombu.transport import TRANSPORT_ALIASES

from paigeant.config import Settings, load_settings
from paigeant.errors import ConfigurationError
from paigeant.transport import BaseTransport, Durability, Features
from paigeant.transports import url_options
from paigeant.transports.schemes import (
    ACKNOWLEDGING,
    ENCRYPTED,
    KOMBUS_OWN,
    STREAMS,
    features_of,
    need_driver,
    scheme_of,
)
from paigeant.urls import is_database_url, masked

if TYPE_CHECKING:
    from kombu import Connection

_NAMES = {
    "memory": "memory://",
    "inmemory": "memory://",
    "in-memory": "memory://",
    "redis": "redis://localhost:6379/0",
    "rabbitmq": "amqp://localhost",
}
"""Short names that documents use for a URL."""

# For kombu programs: Connection("paigeant+sqlite:///queue.db"), Connection("redis-streams+redis://localhost/0").
TRANSPORT_ALIASES.setdefault("paigeant", "paigeant.transports.sql:Transport")
TRANSPORT_ALIASES.setdefault("redis-streams", "paigeant.transports.redis:Transport")
TRANSPORT_ALIASES.setdefault("amqp-tls", "paigeant.transports.amqp_tls:Transport")

_instances: dict[str, BaseTransport] = {}
_lock = threading.Lock()


class BestEffortWarning(UserWarning):
    """Messages on this broker may be lost or late when a worker dies."""


def get_transport(
    url: str | None = None, *, lease_seconds: float | None = None, durability: str | None = None
) -> BaseTransport:
    """The transport for a broker URL, one instance per URL and process; default: the broker of the settings.

    ``"inmemory"`` and ``"memory"`` are short for ``memory://``, whose messages live in this process only; ``"redis"``
    and ``"rabbitmq"`` are those servers on this machine.
    ``durability="best_effort"`` allows brokers that may lose messages.

    Raises:
        ConfigurationError: for a URL no transport knows, and for a broker that promises less than was asked for.
    """
    settings = load_settings(broker_url=url, lease_seconds=lease_seconds, durability=durability)
    address = _address(settings.broker_url)
    _refuse_weaker(address, settings)
    with _lock:
        if address not in _instances:
            _instances[address] = _make(address, settings.lease_seconds)
        return _instances[address]


def new_transport(
    url: str | None = None, *, lease_seconds: float | None = None, durability: str | None = None
) -> BaseTransport:
    """As :func:`get_transport`, but one that is shared with nobody."""
    settings = load_settings(broker_url=url, lease_seconds=lease_seconds, durability=durability)
    address = _address(settings.broker_url)
    _refuse_weaker(address, settings)
    return _make(address, settings.lease_seconds)


def check_broker(url: str) -> None:
    """Raise ConfigurationError for a URL that no transport knows, with the nearest one that there is."""
    scheme_of(_address(url))


def forget(transport: BaseTransport) -> None:
    """Let the next :func:`get_transport` make a new instance."""
    with _lock:
        for url in [url for url, known in _instances.items() if known is transport]:
            del _instances[url]


def _address(url: str) -> str:
    return _NAMES.get(url, url)


def _refuse_weaker(url: str, settings: Settings) -> None:
    """Who may lose messages is asked first. In memory nobody expects to keep them."""
    scheme = scheme_of(url)
    if settings.durability != "best_effort" and features_of(scheme).durability is Durability.BEST_EFFORT:
        raise ConfigurationError(
            f"the broker {masked(url)} is best effort: messages may be lost or late when a worker dies",
            hint='use a SQL database, amqp:// or redis://; or accept it: App(..., durability="best_effort") '
            "or PAIGEANT_DURABILITY=best_effort",
        )


def _make(url: str, lease_seconds: float) -> BaseTransport:
    from paigeant.transports.kombu import KombuTransport
    from paigeant.transports.memory import InMemoryTransport

    need_driver(scheme_of(url))
    if features_of(scheme_of(url)).durability is Durability.VOLATILE:
        return InMemoryTransport(url)
    features, connection = _plan(url, lease_seconds)
    try:
        connection()  # does not connect, but kombu reads the URL
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"cannot understand the broker URL {masked(url)}: {error}") from error
    if features.durability is Durability.BEST_EFFORT:
        warnings.warn(
            f"{masked(url)}: messages may be lost or late when a worker dies", BestEffortWarning, stacklevel=3
        )
    return KombuTransport(url, features, connection)


def _plan(url: str, lease_seconds: float) -> tuple[Features, Callable[[], Connection]]:
    """What the broker can do, and how to connect to it."""
    scheme = scheme_of(url)
    features = features_of(scheme)
    if is_database_url(url):
        return features, partial(_connection, f"paigeant+{url}", lease_seconds=lease_seconds)
    if scheme in STREAMS:
        kind = "paigeant.transports.redis:Transport"
        return features, partial(_connection, url, kind, lease_seconds=lease_seconds)
    url, bare = url.removeprefix(KOMBUS_OWN), scheme.removeprefix(KOMBUS_OWN)
    if bare in ACKNOWLEDGING:
        url, options = url_options.rabbitmq(url)
        counts = options.queue_type == "quorum"
        features = replace(features, delivery_count=counts, longest_hold=options.consumer_timeout)
        tls = options.tls if bare in ENCRYPTED else None
        url = ";".join(part.replace("amqps://", "amqp-tls://", 1) for part in url.split(";"))
        return features, partial(_connection, url, None, tls, queue_type=options.queue_type)
    if bare == "filesystem":
        url, folders = url_options.filesystem(url)
        return features, partial(_connection, url, **folders)
    return features, partial(_connection, url)


def _connection(
    url: str, transport: str | None = None, tls: Mapping[str, Any] | None = None, /, **options: Any
) -> Connection:
    """A connection that tries twice at once and then says no: trying again is the bridge's business."""
    from kombu import Connection

    patience = {"max_retries": 1, "interval_start": 0, "interval_step": 0}
    return Connection(
        url,
        transport=transport,
        ssl=dict(tls) if tls is not None else False,
        transport_options=patience | options,
        connect_timeout=5,
        heartbeat=30,
    )

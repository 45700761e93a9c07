"""Transports by URL."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from kombu.transport import TRANSPORT_ALIASES

from paigeant.config import Settings, load_settings
from paigeant.errors import ConfigurationError
from paigeant.runtime import forks, private
from paigeant.runtime.urls import check_database, is_database_url, masked, tidied
from paigeant.transport import BaseTransport, Durability, Features
from paigeant.transports import url_options
from paigeant.transports.schemes import (
    ACKNOWLEDGING,
    ENCRYPTED,
    KOMBUS_OWN,
    STREAMS,
    check_servers,
    features_of,
    need_driver,
    scheme_of,
)

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
TRANSPORT_ALIASES.setdefault("amqp-tls", "paigeant.transports.amqp.tls:Transport")

_instances: dict[tuple[str, float], BaseTransport] = {}
"""By URL and lease in seconds."""

_lock = forks.Lock()

_HEARTBEAT = 30
"""Seconds, for kombu's other transports that have heartbeats."""


class BestEffortWarning(UserWarning):
    """Messages on this broker may be lost or late when a worker dies."""


def get_transport(
    url: str | None = None, *, lease_seconds: float | None = None, durability: str | None = None
) -> BaseTransport:
    """The transport for a broker URL, one instance per URL, lease and process; default: the broker of the settings.

    ``"inmemory"`` and ``"memory"`` are short for ``memory://``, whose messages live in this process only; ``"redis"``
    and ``"rabbitmq"`` are those servers on this machine.
    ``durability="best_effort"`` allows brokers that may lose messages. A different ``lease_seconds`` is a different
    instance.

    Raises:
        ConfigurationError: for a URL no transport knows, and for a broker that promises less than was asked for.
    """
    settings = load_settings(broker_url=url, lease_seconds=lease_seconds, durability=durability)
    address = _address(settings.broker_url)
    _refuse_weaker(address, settings)
    key = address, settings.lease_seconds
    with _lock:
        if key not in _instances:
            _instances[key] = _make(*key)
        return _instances[key]


def new_transport(
    url: str | None = None, *, lease_seconds: float | None = None, durability: str | None = None
) -> BaseTransport:
    """As :func:`get_transport`, but one that is shared with nobody."""
    settings = load_settings(broker_url=url, lease_seconds=lease_seconds, durability=durability)
    address = _address(settings.broker_url)
    _refuse_weaker(address, settings)
    return _make(address, settings.lease_seconds)


def check_broker(url: str) -> None:
    """Raise ConfigurationError for a URL that no transport knows, or whose servers it would not all use."""
    _address(url)


def forget(transport: BaseTransport) -> None:
    """Let the next :func:`get_transport` make a new instance."""
    with _lock:
        for key in [key for key, known in _instances.items() if known is transport]:
            del _instances[key]


def _address(url: str) -> str:
    """The URL that is meant, checked: of a short name, and of a Unix socket of Redis as kombu writes it.

    Raises:
        ConfigurationError: no transport knows it, or it would not use all its servers.
    """
    url = tidied(url)
    url = re.sub("^redis[+]socket://", "unix://", _NAMES.get(url, url))
    check_database(url) if is_database_url(url) else check_servers(url)
    return url


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
        _refuse_others(connection(), url)  # does not connect, but kombu reads the URL
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"cannot understand the broker URL {masked(url)}: {error}") from error
    if features.durability is Durability.BEST_EFFORT:
        warnings.warn(
            f"{masked(url)}: messages may be lost or late when a worker dies", BestEffortWarning, stacklevel=3
        )
    return KombuTransport(url, features, connection)


def _refuse_others(connection: Connection, url: str) -> None:
    """kombu chooses a transport anew for each further server of a URL: what acts must be what the promise is about."""
    acting = {connection.get_transport_cls()}
    for server in connection.alt:
        other = connection.clone()
        other.switch(server)
        acting.add(other.get_transport_cls())
    if len(acting) > 1:
        names = ", ".join(sorted(f"{one.__module__}.{one.__qualname__}" for one in acting))
        raise ConfigurationError(
            f"the servers of {masked(url)} would be used through different transports: {names}",
            hint="name one server, or servers of one kind",
        )


def _plan(url: str, lease_seconds: float) -> tuple[Features, Callable[[], Connection]]:
    """What the broker can do, and how to connect to it."""
    scheme = scheme_of(url)
    features = features_of(scheme)
    if is_database_url(url):
        return features, partial(_connection, f"paigeant+{url}", lease_seconds=lease_seconds)
    if scheme in STREAMS:
        url = re.sub(";(sentinel://)?", ",", url)  # one URL, so that kombu does not try them in turn by itself
        kind = "paigeant.transports.redis:Transport"
        return features, partial(_connection, url, kind, lease_seconds=lease_seconds)
    url, bare = re.sub(f"(^|;){re.escape(KOMBUS_OWN)}", r"\1", url), scheme.removeprefix(KOMBUS_OWN)
    if bare in ACKNOWLEDGING:
        url, options = url_options.rabbitmq(url)
        counts = options.queue_type == "quorum"
        features = replace(features, delivery_count=counts, longest_hold=options.consumer_timeout)
        tls = options.tls if bare in ENCRYPTED else None
        url = ";".join(part.replace("amqps://", "amqp-tls://", 1) for part in url.split(";"))
        beat = max(1, round(lease_seconds / 2))  # RabbitMQ and we notice silence after two of them
        return features, partial(_connection, url, None, tls, heartbeat=beat, queue_type=options.queue_type)
    if bare == "filesystem":
        url, folders = url_options.filesystem(url)
        return features, partial(_connection, url, heartbeat=_HEARTBEAT, **folders)
    if bare.endswith("+sqlite"):
        return features, partial(_connection_to_file, url)
    return features, partial(_connection, url)


def _connection_to_file(url: str) -> Connection:
    """Connect kombu's own transport over SQLite; it keeps messages in a file, which other users must not read."""
    if path := url.partition(":///")[2].partition("?")[0]:
        with suppress(OSError):  # SQLite raises the error
            private.ensure(path)
    return _connection(url)


def _connection(
    url: str,
    transport: str | None = None,
    tls: Mapping[str, Any] | None = None,
    /,
    heartbeat: int = _HEARTBEAT,
    **options: Any,
) -> Connection:
    """A connection that tries each server, or the only one twice, at once and then says no.

    Trying again is the bridge's business.
    """
    from kombu import Connection

    patience = {"max_retries": len(url.split(";")), "interval_start": 0, "interval_step": 0}
    return Connection(
        url,
        transport=transport,
        ssl=dict(tls) if tls is not None else False,
        transport_options=patience | options,
        connect_timeout=5,
        heartbeat=heartbeat,
    )

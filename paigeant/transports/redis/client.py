"""Connect to a Redis by its URL: alone, over TLS, or by the sentinels that watch over it.

    redis://user:password@host:6379/0
    rediss://host:6380/0?ssl_ca_certs=/etc/ssl/redis.pem&ssl_cert_reqs=required
    sentinel://:password@host1:26379,host2:26379/0?master_name=mymaster
    unix://user:password@/run/redis/redis.sock?db=0

Sentinels may also be written as kombu has them, ``sentinel://host1:26379;sentinel://host2:26379``, with
``master_name`` and ``sentinel_kwargs`` as transport options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from paigeant.errors import ConfigurationError

SOCKET_TIMEOUT = 5.0
"""Seconds after which a silent Redis counts as gone. Nothing here blocks on the server."""

_SENTINEL_PORT = 26379
_PATH = re.compile("([^/?]*)(.*)")


def connect(url: str, options: Mapping[str, Any] | None = None) -> redis.Redis:
    """Return a client that neither hangs on a dead connection nor repeats a command by itself.

    Raises:
        ConfigurationError: the URL cannot be understood.
    """
    options = options or {}
    settings: dict[str, Any] = {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": SOCKET_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "retry": Retry(NoBackoff(), 0),
    }
    scheme = urlsplit(url).scheme
    try:
        if scheme == "sentinel":
            return _by_sentinels(url, settings, options)
        settings |= _parsed(url)
    except ValueError as error:
        raise ConfigurationError(f"cannot understand the Redis URL: {error}", hint="see the how-to on Redis") from error
    kind = settings.pop("connection_class", redis.Connection)
    if kind is redis.UnixDomainSocketConnection:
        del settings["socket_keepalive"]
    pool = redis.ConnectionPool(connection_class=kind, **settings)
    return redis.Redis.from_pool(pool)


def about(client: redis.Redis) -> Mapping[str, Any]:
    """Return what the server reports about itself.

    Raises:
        ConfigurationError: it is a node of a Redis Cluster.
    """
    found: Mapping[str, Any] = client.info("server")
    if found.get("redis_mode") == "cluster":
        raise ConfigurationError(
            "this Redis is a node of a Redis Cluster, over whose nodes paigeant's scripts cannot reach",
            hint="use a server that is no cluster (cluster-enabled no), alone or behind sentinels: sentinel://...",
        )
    return found


def _parsed(url: str) -> dict[str, Any]:
    """What redis-py reads from a URL; TLS requirements also as Python's ``ssl`` and kombu name them."""
    if url.startswith(("unix://", "redis+socket://")):
        url = url.replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db=", 1)
    found: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
    if url.startswith("unix://") and not found.get("path", "").startswith("/"):
        raise ValueError("a socket needs an absolute path: unix:///run/redis/redis.sock")
    requirement = found.get("ssl_cert_reqs")
    if isinstance(requirement, str):
        found["ssl_cert_reqs"] = requirement.lower().removeprefix("cert_")
    return found


def _by_sentinels(url: str, settings: dict[str, Any], options: Mapping[str, Any]) -> redis.Redis:
    """A client that asks the sentinels for the master whenever it connects."""
    login, hosts, rest = _split(url)
    found = _parsed(f"redis://{login}sentinel{rest}")
    for part in ("host", "connection_class"):
        found.pop(part, None)
    name = found.pop("master_name", None) or options.get("master_name")
    if not name:
        raise ValueError("sentinel:// needs ?master_name=NAME")
    passwords = {
        part.removeprefix("sentinel_"): found.pop(part) for part in list(found) if part.startswith("sentinel_")
    }
    timeouts = {part: settings[part] for part in ("socket_timeout", "socket_connect_timeout")}
    asking = {**timeouts, **passwords, **(options.get("sentinel_kwargs") or {})}
    if any(part.startswith("ssl_") for part in found):
        found["ssl"] = True
    sentinel = Sentinel(hosts, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    client: redis.Redis = sentinel.master_for(str(name), **settings, **found)  # type: ignore[no-untyped-call]
    return client


def _split(url: str) -> tuple[str, list[tuple[str, int]], str]:
    """``user:password@``, the sentinels, and the path and options, which need to stand behind one of them only."""
    login, rest = "", ""
    sentinels = []
    for part in re.split("[;,]", url):
        address, path = _PATH.match(part.removeprefix("sentinel://")).groups()  # type: ignore[union-attr]
        before, at, host = address.rpartition("@")
        login, rest = login or before + at, path or rest
        sentinels.append(_address(host))
    return login, sentinels, rest


def _address(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(f"a sentinel needs a host: {text!r}")
    return unquote(parts.hostname), parts.port or _SENTINEL_PORT

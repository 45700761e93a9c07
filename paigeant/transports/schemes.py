"""What carries the messages of a URL, by its scheme: what it promises, and what has to be installed for it."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

from kombu.transport import TRANSPORT_ALIASES

from paigeant.errors import ConfigurationError
from paigeant.runtime.nearest import nearest
from paigeant.runtime.urls import DATABASES, check_hosts, masked
from paigeant.transport import Durability, Features
from paigeant.transports.url_options import CONSUMER_TIMEOUT

KOMBUS_OWN = "kombu+"
"""Before a scheme: kombu's transport, where paigeant has a better one."""

ENCRYPTED = ("amqps", "amqp-tls")
"""RabbitMQ over TLS; the second is ours, which the first is made into."""

ACKNOWLEDGING = ("amqp", "pyamqp", *ENCRYPTED)
"""kombu transports that keep a message until it is acknowledged (measured: docs/explanation/durability.md)."""

STREAMS = ("redis", "rediss", "sentinel", "unix")

_DATABASE = Features(
    durability=Durability.TRANSACTIONAL,
    delay=True,
    priority=True,
    fenced=True,
    delivery_count=True,
    dedupes=True,
    joins_store=True,
)
_REDIS = Features(
    durability=Durability.TRANSACTIONAL, delay=True, priority=True, fenced=True, delivery_count=True, dedupes=True
)
_AMQP = Features(
    durability=Durability.AT_LEAST_ONCE,
    delay=True,
    delivery_count=True,
    longest_hold=CONSUMER_TIMEOUT,
    longest_delay=1.0,
    longest_name=255 - len(".delay.") - 12,  # a delay queue is called after the queue it delays for
)
_MEMORY = Features(durability=Durability.VOLATILE)
_BEST_EFFORT = Features(durability=Durability.BEST_EFFORT)

EXTRAS = {
    "redis": ("redis", "redis"),
    "rediss": ("redis", "redis"),
    "sentinel": ("redis", "redis"),
    "unix": ("redis", "redis"),
    "postgresql": ("postgres", "psycopg"),
    "postgres": ("postgres", "psycopg"),
    "sqs": ("aws", "boto3"),
    "SQS": ("aws", "boto3"),
    "gcpubsub": ("gcp", "google.cloud.pubsub_v1"),
    "azureservicebus": ("azure", "azure.servicebus"),
    "azurestoragequeues": ("azure", "azure.storage.queue"),
    "confluentkafka": ("kafka", "confluent_kafka"),
    "kafka": ("kafka", "confluent_kafka"),
    "mongodb": ("mongodb", "pymongo"),
    "zookeeper": ("zookeeper", "kazoo"),
    "consul": ("consul", "consul"),
    "etcd": ("etcd", "etcd"),
    "pgmq": ("pgmq", "pgmq"),
}
"""The extra a scheme needs, and a module that comes with it. kombu's own extras pin their clients exactly."""

_PACKAGES = {"pyro": ("Pyro4", "pyro4"), "qpid": ("qpid", "qpid-python")}
"""Clients that are not kept up any more and so have no extra: a module, and what to install."""

_GONE = {
    "librabbitmq": "it has no release for this Python: use amqp://",
    "SLMQ": "the service was shut down",
    "slmq": "the service was shut down",
}
"""Schemes kombu knows and nobody can use, and why."""


_LONGEST_NAMES = {
    "sqs": 80,
    "SQS": 80,
    "azurestoragequeues": 63,
    "azureservicebus": 260,
    "kafka": 249,
    "filesystem": 190,
}
"""Of those that have a limit, how many bytes the name of a queue may have."""


def scheme_of(url: str) -> str:
    """The URL's scheme, a prefix ``kombu+`` included.

    Raises:
        ConfigurationError: for one that nothing here or in kombu knows, with the nearest known one.
    """
    scheme = url.partition("://")[0]
    bare = scheme.removeprefix(KOMBUS_OWN)
    _refuse_names_for_kombu(url)
    theirs = bare in TRANSPORT_ALIASES or bare.partition("+")[0] in ("sqla", "sqlalchemy")
    ours = bare == scheme and (bare in STREAMS or bare.partition("+")[0] in DATABASES)
    if "://" not in url or not bare or not (theirs or ours):
        known = [*DATABASES, *(name for name in TRANSPORT_ALIASES if name not in _GONE)]
        near = nearest(bare, known)
        hint = f"did you mean {near}://?" if near else "for example sqlite:///paigeant.db or amqp://localhost"
        raise ConfigurationError(f"unknown broker {masked(url)!r}: no transport for {bare!r}", hint=hint)
    return scheme


_FOR_KOMBU = {"paigeant": "sqlite", "redis-streams": "redis"}
"""Names under which programs of kombu's own know our transports, and a scheme that paigeant has for each."""


def _refuse_names_for_kombu(url: str) -> None:
    """With such a name kombu would choose what acts, not we; and a driver would be passed over in silence."""
    scheme, _, rest = url.partition("://")
    first, _, second = scheme.partition("+")
    if first in _FOR_KOMBU:
        meant = f"{second or _FOR_KOMBU[first]}://{rest}"
        raise ConfigurationError(f"{masked(url)!r} is how kombu names the transport", hint=f"write {masked(meant)}")
    if second and first in (*STREAMS, *ACKNOWLEDGING):
        raise ConfigurationError(
            f"{masked(url)!r} asks for {second!r}, which paigeant does not use",
            hint=f"write {masked(f'{first}://{rest}')}",
        )


def check_servers(url: str) -> None:
    """Refuse several servers in one URL where something else than the first one's transport would act, or nothing.

    Raises:
        ConfigurationError: saying how several servers are written for this broker.
    """
    scheme = scheme_of(url)
    parts = [part for part in url.split(";") if part.strip()]
    kinds = {part.strip().partition("://")[0] for part in parts if "://" in part}
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    if scheme in STREAMS and scheme != "sentinel" and (len(kinds) > 1 or len(parts) > 1 or "," in host):
        raise ConfigurationError(
            f"{masked(url)!r} is several servers, and Redis is one server or one that sentinels watch over",
            hint="write sentinel://host1:26379,host2:26379/0?master_name=NAME, or one server's URL",
        )
    if scheme.removeprefix(KOMBUS_OWN) in ACKNOWLEDGING and "," in host:
        raise ConfigurationError(
            f"{masked(url)!r} is several servers in one address", hint="write amqp://one//;amqp://two//"
        )
    if len(kinds) > 1:
        raise ConfigurationError(
            f"{masked(url)!r} is several brokers of different kinds: {', '.join(sorted(kinds))}",
            hint="the servers of one broker have one scheme",
        )
    check_hosts(url)


def features_of(scheme: str) -> Features:
    """What the broker of this scheme is known to do. What has not been put to the proof is best effort."""
    if scheme.partition("+")[0] in DATABASES:
        return _DATABASE
    if scheme in STREAMS:
        return _REDIS
    if scheme.removeprefix(KOMBUS_OWN) in ACKNOWLEDGING:
        return _AMQP
    bare = scheme.removeprefix(KOMBUS_OWN)
    return _MEMORY if bare == "memory" else replace(_BEST_EFFORT, longest_name=_LONGEST_NAMES.get(bare))


def need_driver(scheme: str) -> None:
    """Raise ConfigurationError when what the scheme needs is not installed."""
    bare = scheme.removeprefix(KOMBUS_OWN).partition("+")[0]
    if bare in _GONE:
        raise ConfigurationError(f"{bare}:// cannot be used: {_GONE[bare]}")
    if bare in EXTRAS:
        extra, module = EXTRAS[bare]
        if not is_installed(module):
            raise ConfigurationError(
                f"{bare}:// needs the {extra} extra: {module!r} is not installed",
                hint=f'pip install "paigeant[{extra}]"',
            )
    elif bare in _PACKAGES:
        module, package = _PACKAGES[bare]
        if not is_installed(module):
            raise ConfigurationError(
                f"{bare}:// needs {module!r}, which is not installed", hint=f"pip install {package}"
            )


def is_installed(module: str) -> bool:
    """Whether the module could be imported. A folder without ``__init__.py`` is none, although Python imports it."""
    try:
        found = find_spec(module)
        return found is not None and found.origin is not None
    except ModuleNotFoundError:  # not even the package it is in
        return False

"""What a URL says before anything connects to it."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode

from paigeant.errors import ConfigurationError

DATABASES = ("sqlite", "postgresql", "postgres")
"""Schemes of databases that carry messages and keep history."""


_SQLITE_HOME = re.compile(r"(sqlite(?:\+\w+)?:///)(~[^/?]*)")


def tidied(url: str) -> str:
    """The URL as it was meant: a mounted secret ends in a line end, and ``sqlite:///~/x.db`` begins at home.

    Raises:
        ConfigurationError: a line end or another control character is in the middle of it.
    """
    url = url.strip().strip("\ufeff").strip()
    if not url.isprintable():
        shown = masked(url).encode("unicode_escape").decode()
        raise ConfigurationError(
            f"the URL {shown!r} has a line end or another control character in it",
            hint="write one URL on one line; several servers have a form of their own",
        )
    return _SQLITE_HOME.sub(lambda found: found[1] + str(Path(found[2]).expanduser()), url)


def is_database_url(url: str) -> bool:
    """Whether the URL names a database rather than a broker."""
    return re.split(r"[+:]", url, maxsplit=1)[0] in DATABASES


def masked(url: str) -> str:
    """The URL with its password and other secrets replaced, for logs and screens."""
    url = re.sub(r"(://[^:/@\s]*):\S*@", r"\1:***@", url)  # up to the last @: people forget to quote passwords
    return _PARAMETER.sub(lambda found: f"{found[1]}=***" if _is_secret(found[1]) else found[0], url)


_PARAMETER = re.compile(r"(?<=[?&;#])([^=&;#?\s]*)=[^&#\s]*")
_SECRETS = re.compile(
    "pass(word|wd|phrase|code)?$|password|pwd|secret|token|credential|api_?key|access_?key|private_?key|auth_?key"
    "|account_?key|shared_?key|encryption_?key|sas_?key|(^|[^a-z])(key|sig|signature|auth|authorization|jwt|bearer|code)$"
)
"""What the name of a parameter contains whose value is a secret."""


def _is_secret(name: str) -> bool:
    """Whether the value of a URL's parameter is a secret. The name may be spelt with percent signs."""
    return _SECRETS.search(unquote(name).lower()) is not None


_PORTS = {"amqp": 5672, "amqps": 5671, "redis": 6379, "rediss": 6379, "postgresql": 5432}
_KINDS = {"postgres": "postgresql", "pyamqp": "amqp", "in-memory": "memory", "inmemory": "memory"}
_HOST = re.compile(r"(?:\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{0,5}))?")
_QUOTED = (
    "an IPv6 address stands in brackets, and in a password write / as %2F, ? as %3F, @ as %40, : as %3A and ; as %3B"
)


def check_hosts(url: str) -> None:
    """Refuse hosts, ports and Redis databases that nothing can connect to.

    Raises:
        ConfigurationError: it says what is wrong, without what may be a part of a password.
    """
    for part in url.split(";"):
        scheme, _, rest = part.strip().partition("://")
        kind = _kind_of(scheme)
        if kind not in _PORTS:
            continue
        server, _, path = rest.partition("?")[0].partition("/")
        _, at, hosts = server.rpartition("@")
        for host in hosts.split(","):
            found = _HOST.fullmatch(host)
            if found is not None and (not found[1] or 0 < int(found[1]) < 65_536):
                continue
            if at or not ("@" in url or host.startswith(":")):
                raise ConfigurationError(
                    f"{masked(url)!r}: {host!r} is no host with a port",
                    hint=f"write {scheme}://HOST:{_PORTS[kind]}/…, an IPv6 address in brackets: [::1]",
                )
            raise ConfigurationError(  # what stands there may be a part of a password
                f"a URL of {scheme}:// has something else than a host and a port where they should be",
                hint=f"write {scheme}://USER:PASSWORD@HOST:{_PORTS[kind]}/…; {_QUOTED}",
            )
        number = path.strip("/")
        if kind.startswith("redis") and number and not re.fullmatch("[0-9]{1,9}", number):
            raise ConfigurationError(
                f"the database {number!r} in a URL of {scheme}:// is no number", hint=f"write {scheme}://HOST:6379/0"
            )


def _kind_of(scheme: str) -> str:
    kind = scheme.partition("+")[0].lower()
    return _KINDS.get(kind, kind)


_DRIVERS = {"sqlite": ("sqlite", "sqlite+pysqlite"), "postgresql": ("postgresql", "postgres", "postgresql+psycopg")}


def check_database(url: str) -> None:
    """Refuse what a database URL asks for and paigeant would not do.

    Raises:
        ConfigurationError: another driver, or several URLs in one.
    """
    scheme, _, rest = url.partition("://")
    kind = "sqlite" if scheme.startswith("sqlite") else "postgresql"
    if scheme not in _DRIVERS[kind]:
        raise ConfigurationError(
            f"{masked(url)!r} asks for a driver that paigeant does not use", hint=f"write {masked(f'{kind}://{rest}')}"
        )
    if re.search(r";\s*\w+(\+\w+)?://", rest):
        raise ConfigurationError(
            f"{masked(url)!r} is several URLs, and a database has one",
            hint="several servers of one PostgreSQL are written as postgresql://one:5432,two:5432/name",
        )
    check_hosts(url)


_LOCAL = frozenset({"localhost", "127.0.0.1", "::1", ""})
_ROOTS = {"amqp": "/", "amqps": "/", "redis": "0", "rediss": "0"}
"""What is meant where a URL names no virtual host or database."""
_TELLING = ("dbname", "global_keyprefix", "host", "options", "port", "queue_name_prefix", "virtual_host")
"""Parameters of a URL that say which broker it is, and not how to talk to it."""


def fingerprint(url: str) -> str:
    """A name for the broker at this URL, the same for each way to log in there: hexadecimal digits.

    One broker with two host names has two.
    """
    return sha256(address_of(url).encode()).hexdigest()[:16]


def address_of(url: str) -> str:
    """What of a broker's URL says which broker it is: neither user nor password, nor how to talk to it."""
    parts = sorted(_address(part) for part in url.split(";") if part)
    return ";".join(parts)


def _address(url: str) -> str:
    scheme, _, rest = url.partition("://")
    kind = _kind_of(scheme)
    rest, _, query = rest.partition("?")
    telling = sorted((name, value) for name, value in parse_qsl(query) if name in _TELLING)
    tail = f"?{urlencode(telling)}" if telling else ""
    if kind == "sqlite":
        path = rest.removeprefix("/")
        return f"sqlite:{Path(path).resolve() if path and path != ':memory:' else ''}{tail}"
    server, _, path = rest.partition("/")
    hosts = ",".join(sorted(_host(one, _PORTS.get(kind)) for one in server.rpartition("@")[2].split(",")))
    return f"{kind}://{hosts}/{unquote(path) or _ROOTS.get(kind, '')}{tail}"


def _host(text: str, default: int | None) -> str:
    found = re.fullmatch(r"\[?(.*?)\]?(?::(\d+))?", text.lower())
    name, port = (found[1], found[2]) if found else (text, None)
    return f"{'localhost' if name in _LOCAL else name}:{port or default or ''}"

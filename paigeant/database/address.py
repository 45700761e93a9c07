"""The URL of a database as SQLAlchemy has it."""

from __future__ import annotations

import re

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from paigeant.errors import ConfigurationError
from paigeant.runtime.urls import check_database, masked

_HOSTS = re.compile(r"(?P<scheme>[^:]+)://(?P<login>[^/?]*@)?(?P<hosts>[^/?@]*,[^/?@]*)(?P<rest>[/?].*|)")
_PORT = "5432"


def address_of(url: str) -> URL:
    """The SQLAlchemy URL: drivers filled in, ``postgres://`` and the several hosts of libpq understood.

    Raises:
        ConfigurationError: the URL cannot be read, or asks for another driver.
    """
    check_database(url)
    try:
        parsed = _with_hosts(url)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(
            f"{masked(url)!r} is not a database URL", hint="for example sqlite:///paigeant.db"
        ) from error
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def _with_hosts(url: str) -> URL:
    """Of ``//one:5432,two:5432/name`` SQLAlchemy knows only the form ``///name?host=one,two&port=5432,5432``."""
    found = _HOSTS.fullmatch(url)
    if found is None:
        return make_url(url)
    hosts, ports = zip(*(_host_and_port(one) for one in found["hosts"].split(",")), strict=True)
    parsed = make_url(f"{found['scheme']}://{found['login'] or ''}{found['rest']}")
    several = {"host": ",".join(hosts), "port": ",".join(ports)}
    # Without it the first that answers is taken, which may be a standby, where nothing can be written.
    return parsed.set(query={"target_session_attrs": "read-write", **parsed.query, **several})


def _host_and_port(text: str) -> tuple[str, str]:
    found = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\d+))?", text)
    if found is None:
        raise ValueError(f"{text!r} is no host")
    return found[1].strip("[]"), found[2] or _PORT

"""What kind of trouble an error of a broker or a store tells of: whether waiting helps, and what to look at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum


class Trouble(StrEnum):
    """Kinds of trouble with a server or a file."""

    FULL = "full"
    """Its disk or its memory is full."""
    DENIED = "denied"
    """It refuses the login, or a right that is needed."""
    READ_ONLY = "read_only"
    """It may be read and not written."""
    MISSING = "missing"
    """The server answers, and has no such database or virtual host."""
    SLOW = "slow"
    """It did not answer in time."""
    AWAY = "away"
    """Nothing answers, or what answers is starting or stopping."""
    OTHER = "other"


ADVICE = {
    Trouble.FULL: "there is no room left: free disk space or memory there, or give it more",
    Trouble.DENIED: "it answers, and refuses the login or the right to do this: are user and password right, and what "
    "may this user do?",
    Trouble.READ_ONLY: "it can be read and not written: is it a standby, or a folder without the right to write?",
    Trouble.MISSING: "it answers, and has no such database or virtual host: create it, or correct the URL",
    Trouble.SLOW: "it did not answer in time: is it overloaded, or does something on the way swallow what is sent?",
    Trouble.AWAY: "nothing answers there: is it running, and is this its URL? see: paigeant config",
}
"""What to look at, by the kind of trouble."""


def advice(error: BaseException) -> str | None:
    """What to look at; None for trouble of no known kind."""
    return ADVICE.get(trouble_of(error))


_SERVERS = {
    "amqp": "docker run -p 5672:5672 rabbitmq:4",
    "redis": "docker run -p 6379:6379 redis:8",
    "postgres": "docker run -p 5432:5432 -e POSTGRES_PASSWORD=secret postgres:17",
}
"""How to start a server for a try, by the beginning of its URL's scheme."""


def how_to_start(error: BaseException) -> str | None:
    """What starts a server on this machine like the one that the error says nothing answers for, if it names one."""
    if trouble_of(error) is not Trouble.AWAY:
        return None
    found = re.search(r"\b(amqp|redis|postgres)[\w+]*://", str(error))
    return None if found is None else f"to start one here: {_SERVERS[found[1]]}"


_SIGNS: tuple[tuple[Trouble, str], ...] = (
    (Trouble.FULL, r"no space left|disk is full|disk full|disk quota|could not extend|OOM command|maxmemory"),
    (Trouble.READ_ONLY, r"read-?only"),
    (
        Trouble.MISSING,
        r"database .* does not exist|no vhost|vhost .* not found|DB index is out of range|invalid DB index",
    ),
    (
        Trouble.DENIED,
        r"permission denied|authentication|ACCESS[_ ]REFUSED|access refused|login was refused|WRONGPASS|NOAUTH|NOPERM"
        r"|invalid (username|password)|invalid client password|no password supplied|pg_hba|role .* does not exist"
        r"|must be owner|NOT_ALLOWED|not authorized|without any password",
    ),
    (Trouble.SLOW, r"timed? ?out|time-out|statement timeout|database is locked|canceling statement"),
    (
        Trouble.AWAY,
        r"refused|reset|unreachable|closed|no route|starting up|shutting down|shutdown|recovery mode|LOADING"
        r"|broken pipe|name or service|name resolution|nodename|getaddrinfo|no address|could not translate"
        r"|too many (clients|connections)|remaining connection slots|MASTERDOWN|CLUSTERDOWN|EOF|no (more )?data"
        r"|(connection|server) .*(lost|gone|terminated|down|aborted)|connecting to|CONNECTION_FORCED",
    ),
)
"""What the texts of brokers, databases and the operating system have in common; the first that fits counts."""

_URL = re.compile(r"\S+://\S*")
"""Names of hosts and files say nothing of the trouble."""

_PATTERNS = tuple((kind, re.compile(signs, re.IGNORECASE)) for kind, signs in _SIGNS)


def trouble_of(error: BaseException) -> Trouble:
    """The kind of trouble, read from the error's text, then from the errors that caused it."""
    for one in _chain(error):
        text = _URL.sub("", str(one))
        for kind, pattern in _PATTERNS:
            if pattern.search(text):
                return kind
        if (kind := _by_type(one)) is not Trouble.OTHER:
            return kind
    return Trouble.OTHER


def will_pass(error: BaseException) -> bool:
    """Whether waiting may help: nothing answered, or not in time."""
    return trouble_of(error) in (Trouble.AWAY, Trouble.SLOW)


def _by_type(error: BaseException) -> Trouble:
    match error:
        case PermissionError():
            return Trouble.DENIED
        case TimeoutError():
            return Trouble.SLOW
        case ConnectionError() | EOFError():
            return Trouble.AWAY
    return Trouble.OTHER


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__

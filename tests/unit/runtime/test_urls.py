from __future__ import annotations

import re

import pytest

from paigeant import App
from paigeant.errors import ConfigurationError
from paigeant.runtime.urls import check_hosts, is_database_url, masked


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://guest:guest@localhost//", "amqp://guest:***@localhost//"),
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("postgresql+psycopg://me:p@ss/w:rd@db/x", "postgresql+psycopg://me:***@db/x"),
        ("amqp://a:b@one;amqp://c:d@two", "amqp://a:***@two"),
        ("postgresql://db/x?user=me&password=secret&sslmode=on", "postgresql://db/x?user=me&password=***&sslmode=on"),
        ("sqs://?AWS_SECRET_ACCESS_KEY=xyz", "sqs://?AWS_SECRET_ACCESS_KEY=***"),
        ("sqlite:///x.db?key=SECRET", "sqlite:///x.db?key=***"),
        ("s3://b/x?sig=SECRET&se=1&X-Amz-Signature=SECRET", "s3://b/x?sig=***&se=1&X-Amz-Signature=***"),
        ("https://h/?apikey=SECRET&api_key=SECRET&page=2", "https://h/?apikey=***&api_key=***&page=2"),
        ("https://h/?%6Bey=SECRET&%74oken=SECRET", "https://h/?%6Bey=***&%74oken=***"),
        ("https://h/#access_token=SECRET", "https://h/#access_token=***"),
        ("postgresql://h/x?passfile=a&sslkey=/k.pem", "postgresql://h/x?passfile=a&sslkey=/k.pem"),
        ("redis://h/0?global_keyprefix=shop&heartbeat=5", "redis://h/0?global_keyprefix=shop&heartbeat=5"),
        ("amqp://one?pwd=SECRET;amqp://two", "amqp://one?pwd=***"),
        ("postgresql://me@db/x", "postgresql://me@db/x"),
        ("postgresql://db:5432/x", "postgresql://db:5432/x"),
        ("sqlite:///a/b.db", "sqlite:///a/b.db"),
        ("sqlite:////tmp/a:b.db", "sqlite:////tmp/a:b.db"),
        ("memory://", "memory://"),
        ("no url at all", "no url at all"),
    ],
)
def test_passwords_are_never_shown(url, shown):
    """Everything else of a URL is, so that an operator knows which one is meant."""
    assert masked(url) == shown


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite://", True),
        ("sqlite:///x.db", True),
        ("postgres://x", True),
        ("postgresql+psycopg://x", True),
        ("amqp://x", False),
        ("sqs://x", False),
        ("sqlite3://x", False),
        ("none", False),
    ],
)
def test_databases_are_known_by_their_scheme(url, expected):
    """They can carry messages and keep history."""
    assert is_database_url(url) is expected


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://h:x/0", "'h:x' is no host with a port"),
        ("redis://h:65536/0", "'h:65536' is no host"),
        ("redis://h:0/0", "'h:0' is no host"),
        ("amqp://h:5672:5/", "'h:5672:5' is no host"),
        ("amqps://one//;amqps://two:y//", "'two:y' is no host"),
        ("redis://[::1/0", "is no host"),
        ("redis://::1/0", "something else than a host and a port"),
        ("postgresql://u:p@h:5432:1/db", "'h:5432:1' is no host"),
        ("postgresql://u:p@one:5432,two:x/db", "'two:x' is no host"),
        ("redis://h/cache", "the database 'cache' in a URL of redis:// is no number"),
        ("redis://h/99999999999", "is no number"),
        ("redis://h/\u0663", "is no number"),
        ("amqp://me:pass/word@h//", "something else than a host and a port"),
        ("postgres://me:pass/word@h/db", "something else than a host and a port"),
        ("postgresql://me:word?x@h/db", "something else than a host and a port"),
        ("amqp://me:word;x@h/", "something else than a host and a port"),
        ("redis://:word?x@h:6379/0", "something else than a host and a port"),
        ("redis://:password/0", "something else than a host and a port"),
    ],
)
def test_what_nothing_can_connect_to_is_refused(url, why):
    """When the App is made, with what to write instead; no part of a password is shown."""
    with pytest.raises(ConfigurationError, match=re.escape(why)) as caught:
        App("x", url)
    assert "write" in caught.value.hint
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://:p@h:6379",
        "rediss://[::1]:6380/15?ssl_cert_reqs=none",
        "amqp://",
        "amqp://u:p%2Fw@h//",
        "amqp://one//;amqp://two:5673//",
        "redis://h:/0",
        "postgresql://h:,h2/db",
        "amqp://h/my@vhost",
        "postgresql:///db?host=/run/pg",
        "postgresql://one:5432,[::2]:5433/db",
        "postgresql://u:p@w@h/db",
    ],
)
def test_what_something_can_connect_to_is_not(url):
    """However it is written."""
    check_hosts(url)

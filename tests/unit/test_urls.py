from __future__ import annotations

import pytest

from paigeant.urls import is_database_url, masked


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://guest:guest@localhost//", "amqp://guest:***@localhost//"),
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("postgresql+psycopg://me:p@ss/w:rd@db/x", "postgresql+psycopg://me:***@db/x"),
        ("amqp://a:b@one;amqp://c:d@two", "amqp://a:***@two"),
        ("postgresql://db/x?user=me&password=secret&sslmode=on", "postgresql://db/x?user=me&password=***&sslmode=on"),
        ("sqs://?AWS_SECRET_ACCESS_KEY=xyz", "sqs://?AWS_SECRET_ACCESS_KEY=***"),
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

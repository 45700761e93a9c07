"""What an error of a broker or a store tells of."""

from __future__ import annotations

import pytest

from paigeant.errors import StoreError, TransportError
from paigeant.runtime.trouble import Trouble, trouble_of, will_pass


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("cannot use the broker redis://127.0.0.1:1: Error 111 connecting to 127.0.0.1:1. Connection refused.", "away"),
        ("cannot use the broker amqp://x: [Errno -2] Name or service not known", "away"),
        ("cannot use the broker amqp://x: Server unexpectedly closed connection", "away"),
        ("cannot use the broker redis://x: Redis is loading the dataset in memory: LOADING", "away"),
        ("cannot use the store postgresql://x: FATAL:  the database system is starting up", "away"),
        ("cannot use the store postgresql://x: FATAL:  sorry, too many clients already", "away"),
        ("cannot use the broker redis://x: Timeout reading from socket", "slow"),
        ("cannot use the store postgresql://x: canceling statement due to statement timeout", "slow"),
        ("cannot use the store postgresql://x: timeout expired", "slow"),
        ("cannot use the store sqlite:///x.db: database is locked", "slow"),
        ("cannot use the broker amqp://x: (403) ACCESS_REFUSED - Login was refused", "denied"),
        ("cannot use the broker redis://x: WRONGPASS invalid username-password pair or user is disabled", "denied"),
        ("cannot use the broker redis://x: NOPERM this user has no permissions to run the 'xadd' command", "denied"),
        ('cannot use the store postgresql://x: connection failed: FATAL:  role "ada" does not exist', "denied"),
        ("cannot use the store postgresql://x: permission denied for schema public", "denied"),
        ('cannot use the store postgresql://x: FATAL:  password authentication failed for user "x"', "denied"),
        ("cannot use the store postgresql://x: no pg_hba.conf entry for host", "denied"),
        ('cannot use the store postgresql://x: FATAL:  database "y" does not exist', "missing"),
        ("cannot use the broker amqp://x: (530) NOT_ALLOWED - vhost nowhere not found", "missing"),
        ("cannot use the store sqlite:///x.db: database or disk is full", "full"),
        ("cannot use the broker redis://x: OOM command not allowed when used memory > 'maxmemory'.", "full"),
        ("cannot use the store postgresql://x: could not extend file: No space left on device", "full"),
        ("cannot use the store sqlite:///x.db: attempt to write a readonly database", "read_only"),
        ("cannot use the store sqlite:///x.db: file is not a database", "other"),
        ("cannot use the broker amqp://full-closed-timeout.example: something else", "other"),
    ],
)
def test_the_kind_is_read_from_the_text(text, kind):
    """The URL in it says nothing."""
    assert trouble_of(TransportError(text)) == kind


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (TimeoutError(), Trouble.SLOW),
        (ConnectionResetError(), Trouble.AWAY),
        (PermissionError(13, "x"), Trouble.DENIED),
        (ValueError("x"), Trouble.OTHER),
    ],
)
def test_or_from_what_caused_it(cause, kind):
    """Where the text does not tell."""
    error = StoreError("cannot use the store")
    error.__cause__ = cause

    assert trouble_of(error) is kind
    assert will_pass(error) == (kind in (Trouble.AWAY, Trouble.SLOW))

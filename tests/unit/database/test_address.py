"""The URL of a database: what libpq and SQLAlchemy understand, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from paigeant import App
from paigeant.database.address import address_of
from paigeant.errors import ConfigurationError


def parameters(url: str) -> dict[str, Any]:
    address = address_of(url)
    _, options = address.get_dialect()().create_connect_args(address)
    return options


def test_several_hosts_are_passed_on() -> None:
    """The one that accepts writes is used."""
    found = parameters("postgresql://me:p%40ss@one:5433,two,[::1]:5434/name?sslmode=require")
    assert found == {
        "host": "one,two,::1",
        "port": "5433,5432,5434",
        "user": "me",
        "password": "p@ss",
        "dbname": "name",
        "sslmode": "require",
        "target_session_attrs": "read-write",
    }


def test_who_names_another_kind_of_server_gets_it() -> None:
    url = "postgresql://one,two/name?target_session_attrs=prefer-standby"
    assert parameters(url)["target_session_attrs"] == "prefer-standby"


def test_one_host_stays_as_it_is() -> None:
    assert parameters("postgres://me@one/name") == {"host": "one", "user": "me", "dbname": "name"}


@pytest.mark.parametrize(
    ("url", "write"),
    [
        ("postgresql+asyncpg://me:secret@host/name", "write postgresql://me:***@host/name"),
        ("postgresql+psycopg2://me@host/name", "write postgresql://me@host/name"),
        ("sqlite+aiosqlite:///file.db", "write sqlite:///file.db"),
        ("postgresql://one/name;postgresql://two/name", "postgresql://one:5432,two:5432/name"),
    ],
)
@pytest.mark.parametrize("setting", ["broker", "store"])
def test_what_paigeant_would_not_do_is_refused_by_the_app(url: str, write: str, setting: str) -> None:
    """With what to write instead, and without the password."""
    with pytest.raises(ConfigurationError) as raised:
        App("test", **{setting: url})
    assert write in str(raised.value.hint)
    assert "secret" not in f"{raised.value} {raised.value.hint}"

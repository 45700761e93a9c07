"""Stores, and what keeps large values, by URL."""

from __future__ import annotations

import re

from paigeant.claim_check import Keeper
from paigeant.errors import ConfigurationError
from paigeant.store import Store
from paigeant.urls import is_database_url, masked

NONE = "none"
"""The store URL that means: remember nothing."""


def store_url(broker_url: str, wanted: str | None) -> str | None:
    """Where the store is: as wanted, else in the broker's database, else in memory for an in-memory broker."""
    if wanted == NONE:
        return None
    if wanted:
        return wanted
    if is_database_url(broker_url):
        return broker_url
    return "sqlite://" if re.match("(in-?)?memory", broker_url) else None


def open_keeper(url: str) -> Keeper:
    """What keeps large values at this URL of a directory or an object store.

    Raises:
        ConfigurationError: nothing here knows such URLs, or what would is not installed.
    """
    from paigeant.stores.objects import Objects

    return Objects(url)


def open_store(url: str) -> Store:
    """The store at this URL, not yet connected.

    Raises:
        ConfigurationError: for a URL that is no database.
    """
    if not is_database_url(url):
        raise ConfigurationError(
            f"{masked(url)!r} cannot be a store", hint="use a sqlite:// or postgresql:// URL, or 'none'"
        )
    from paigeant.stores.sql import SqlStore

    return SqlStore(url)

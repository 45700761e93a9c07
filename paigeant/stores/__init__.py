"""Open stores, and keepers of large values, by URL."""

from __future__ import annotations

import re

from paigeant.errors import ConfigurationError
from paigeant.runtime.urls import check_database, is_database_url, masked, tidied
from paigeant.store import Store
from paigeant.wire.claim_check import Keeper

NONE = "none"
"""The store URL for an App without a store."""


def store_url(broker_url: str, wanted: str | None) -> str | None:
    """Return the URL of the store: the wanted one, else the broker's database, else memory for a broker in memory."""
    if wanted == NONE:
        return None
    if wanted:
        return wanted
    if is_database_url(broker_url):
        return broker_url
    return "sqlite://" if re.match("(in-?)?memory", broker_url) else None


def open_keeper(url: str) -> Keeper:
    """Return the keeper of large values at this URL of a directory or an object store.

    Raises:
        ConfigurationError: no installed package supports such URLs.
    """
    from paigeant.stores.objects import Objects

    return Objects(url)


def check_store(url: str | None) -> None:
    """Raise an error for an unusable store URL. None and ``none`` mean no store.

    Raises:
        ConfigurationError: the URL names no database, or an option that paigeant does not support.
    """
    if not url or url == NONE:
        return
    if not is_database_url(url):
        raise ConfigurationError(
            f"{masked(url)!r} cannot be a store", hint="use a sqlite:// or postgresql:// URL, or 'none'"
        )
    check_database(url)


def open_store(url: str) -> Store:
    """Return the store at this URL, not yet connected.

    Raises:
        ConfigurationError: the URL names no database.
    """
    url = tidied(url)
    check_store(url)
    from paigeant.stores.sql import SqlStore

    return SqlStore(url)

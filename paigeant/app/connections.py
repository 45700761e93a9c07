"""The connections of an App: its settings, broker and store, and the objects that use them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Self
from weakref import WeakSet

from paigeant.activity.observers import Observer
from paigeant.app.declarations import Declarations
from paigeant.config import Settings
from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.dispatch.strangers import Strangers
from paigeant.dispatch.timers import Timers
from paigeant.records.workflow import HERE, Owner
from paigeant.runtime.clock import Clock, SystemClock
from paigeant.runtime.urls import address_of, check_database, fingerprint, is_database_url, masked, tidied
from paigeant.store import Store
from paigeant.stores import check_store, open_keeper, open_store, store_url
from paigeant.transport import BaseTransport

if TYPE_CHECKING:
    from paigeant.security.claims import Tokens
    from paigeant.security.notary import Notary

_apps: WeakSet[Connections] = WeakSet()
"""The Apps of this process. Apps with the same broker URL share one connection."""


class Connections(Declarations):
    """The part of an App that uses broker and store. It connects on first use."""

    _given_clock: Clock | None = None

    def __init__(
        self: Self, name: str, settings: Settings, strangers: Strangers, observers: Sequence[Observer]
    ) -> None:
        check_broker(settings.broker_url)
        check_store(settings.store_url)
        super().__init__(name, settings.queue_prefix or name, strangers, observers)
        self.settings = settings
        """The settings that the App uses."""
        self.everywhere: list[Self] = [self]
        """This App and the Apps that :meth:`on` derived from it."""
        self._workers = 0
        self._is_to_close = False
        _apps.add(self)

    def use(self, broker: str | None = None, store: str | None = None) -> None:
        """Replace the URLs that the App was created with. Call this before anything connects.

        Raises:
            ConfigurationError: no transport supports the broker's URL.
        """
        urls = {"broker_url": broker, "store_url": store}
        self.settings = self.settings.model_copy(update={name: tidied(url) for name, url in urls.items() if url})
        check_broker(self.settings.broker_url)
        check_store(self.settings.store_url)

    def on(self, transport: BaseTransport) -> Self:
        """Return an App with the same activities that uses this transport; this App itself if it already uses it.

        The returned App uses the same store if the settings name one, else the store in the transport's database.
        """
        if "transport" not in self.__dict__ and self.settings.broker_url == transport.url:
            self.transport = transport
        for app in self.everywhere:
            if app.__dict__.get("transport") is transport:
                return app
        other = copy(self)
        for made in ("transport", "store", "dispatcher"):
            other.__dict__.pop(made, None)
        other._workers, other._is_to_close = 0, False
        other.settings = self.settings.model_copy(update={"broker_url": transport.url})
        other.transport = transport
        _apps.add(other)
        self.everywhere.append(other)
        return other

    @cached_property
    def transport(self) -> BaseTransport:
        """The transport that publishes and consumes the App's messages."""
        from paigeant.transports import get_transport

        settings = self.settings
        return get_transport(settings.broker_url, lease_seconds=settings.lease_seconds, durability=settings.durability)

    @cached_property
    def tokens(self) -> Tokens | None:
        """Checks the tokens of users on whose behalf workflows run; None if no setting configures it.

        Raises:
            ConfigurationError: the settings for tokens are incomplete.
        """
        if not self.settings.has_tokens:
            return None
        from paigeant.security.claims import Tokens

        return Tokens.of(self.settings)

    @cached_property
    def notary(self) -> Notary | None:
        """Signs messages and verifies signatures; None if the App does not sign.

        Raises:
            ConfigurationError: the settings for signing are incomplete or wrong.
        """
        if self.settings.signing == "off":
            return None
        from paigeant.security.signing import notary_of

        return notary_of(self.settings, self.name)

    @cached_property
    def store(self) -> Store | None:
        """The store that records workflows, or None."""
        url = store_url(self.settings.broker_url, self.settings.store_url)
        if not url:
            return None
        store = open_store(url)
        store.owner = self.owner
        return store

    @property
    def owner(self) -> Owner:
        """Identifies the messages of this App in a store that other Apps may use, too."""
        url = self.settings.broker_url
        store = store_url(url, self.settings.store_url)
        is_here = store is not None and address_of(store) == address_of(url)
        return Owner(self.prefix, HERE if is_here else fingerprint(url), masked(url))

    @property
    def clock(self) -> Clock:
        """The clock of the App's workflows and workers: the store's clock, or the virtual clock of a simulation."""
        if self._given_clock is not None:
            return self._given_clock
        return SystemClock() if self.store is None else self.store.clock

    @clock.setter
    def clock(self, clock: Clock) -> None:
        self._given_clock = clock

    @cached_property
    def dispatcher(self) -> Dispatcher:
        """Publishes messages and settles deliveries."""
        ledger = self.store.ledger() if self.store is not None else None
        return Dispatcher(
            transport=self.transport,
            store=self.store,
            joined=ledger is not None and self.transport.enlist(ledger),
            app=self.name,
            prefix=self.prefix,
            message_limit=self.settings.message_limit,
            stream_retention=self.settings.stream_retention,
            observers=self.observers,
            keeper=open_keeper(url) if (url := self.settings.claim_check) else self.store,
            large=self.settings.claim_check_from,
            value_limit=self.settings.value_limit,
            step_limit=self.settings.step_limit,
            late_after=self.settings.recovery_grace / 2,
            owner=self.owner,
            notary=self.notary,
        )

    @property
    def timers(self) -> Timers | None:
        """Publishes messages that are parked in the store when they are due; None without a store."""
        return Timers(self.dispatcher, self.store, self.clock) if self.store is not None else None

    async def connect(self) -> None:
        """Connect to broker and store; raises an error if one of them cannot be reached."""
        dispatcher = self.dispatcher
        if dispatcher.store is not None:
            await dispatcher.store.connect()
        await dispatcher.transport.connect()

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[None]:
        """Keep the App connected while a worker of this process serves it, even if other code closes the App.

        The last worker that ends disconnects the App, unless the program had used the App before its workers started.
        """
        if not self._workers:
            self._is_to_close = "dispatcher" not in self.__dict__
        self._workers += 1
        try:
            yield
        finally:
            self._workers -= 1
            if not self._workers and self._is_to_close:
                await self.close()

    async def close(self) -> None:
        """Disconnect. The App connects again on its next use.

        A connection that another App or a worker of this process uses stays open until that App or worker has ended.
        """
        from paigeant.transports import forget

        if self._workers:
            self._is_to_close = True
            return
        made = self.__dict__
        made.pop("dispatcher", None)
        transport = made.pop("transport", None)
        if transport is not None and not _is_used(transport):
            forget(transport)
            await transport.close()
        if (store := made.get("store")) is not None and not _is_served(store):
            await store.close()


def check_broker(url: str) -> None:
    """Raise ConfigurationError for a URL that no transport supports."""
    if is_database_url(url):
        check_database(url)
    else:  # kombu supports the other URLs, but is slow to import
        from paigeant.transports import check_broker

        check_broker(url)


def _is_served(store: Store) -> bool:
    """Return whether a worker of this process uses the store."""
    return any(app.__dict__.get("store") is store and app._workers for app in _apps)


def _is_used(transport: BaseTransport) -> bool:
    return any(app.__dict__.get("transport") is transport for app in _apps)

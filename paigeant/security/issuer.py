"""The keys with which an issuer signs the tokens of users: given in the settings, or fetched from the issuer.

Tokens of strangers decide which key is asked for, so they must not decide how often the issuer is asked.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

import structlog

from paigeant.errors import ConfigurationError, KeysUnavailable, KeyUnknown
from paigeant.runtime import forks
from paigeant.runtime.clock import boot_time
from paigeant.runtime.urls import masked
from paigeant.security import jwk
from paigeant.security.jwk import KeySet, VerifyingKey
from paigeant.wire.values import printable

log = structlog.stdlib.get_logger("paigeant.security")

REFRESH_EVERY = 30.0
"""Seconds between two requests to the issuer, whatever tokens arrive."""

FRESH_FOR = 300.0
"""Seconds after which the keys are fetched again. Tokens are verified with the present keys meanwhile."""

VALID_FOR = 3600.0
"""Seconds after which keys are not used any more, if the issuer has not published them again since."""

PATIENCE = 10.0
"""Seconds for which the issuer may take to answer."""

_LOST_AFTER = 60.0
"""Seconds after which a request that has not ended is given up, and another one may begin."""

_LONGEST_SHOWN, _LONGEST_FAULT = 80, 300
"""Characters of an id and of a fault in texts for people."""


class Keys(Protocol):
    """Finds the key that verifies a token."""

    async def of(self, kid: str | None) -> VerifyingKey:
        """Return the key that a token names by its id.

        Raises:
            ValueError: the token names none.
            KeyUnknown: the issuer publishes no such key.
            KeysUnavailable: the issuer's keys cannot be fetched now.
        """
        ...


@dataclass(frozen=True, slots=True)
class GivenKey:
    """The one key of the settings. The id that a token names does not matter."""

    key: VerifyingKey

    async def of(self, kid: str | None) -> VerifyingKey:
        return self.key


class FetchedKeys:
    """The keys that an issuer publishes under a URL. ``fetch`` returns the answer; it runs in a thread of its own.

    At most one request runs at a time, and one per :data:`REFRESH_EVERY` seconds; the first one that succeeds does not
    count. A token whose key is known never waits for a request, unless the keys are older than :data:`VALID_FOR`.
    """

    def __init__(
        self,
        issuer: str,
        url: str,
        fetch: Callable[[str], bytes] | None = None,
        now: Callable[[], float] = boot_time,
    ) -> None:
        refuse_insecure(url)
        self.issuer = issuer
        self.url = url
        self._fetch = fetch or fetched
        self._now = now
        self._lock = threading.Lock()
        self._keys: KeySet | None = None
        self._fault = ""
        self._published_at = self._asked_at = -math.inf
        self._running: Future[None] | None = None
        forks.enlist(self)

    def forget_after_fork(self) -> None:
        """Forget a request that runs in the parent."""
        self._lock = threading.Lock()
        self._running = None

    async def of(self, kid: str | None) -> VerifyingKey:
        """Return the key with this id, as :meth:`Keys.of`."""
        if kid is None or len(kid) > jwk.LONGEST_KID:
            raise ValueError(f'it names no key by an id ("kid") of at most {jwk.LONGEST_KID} characters')
        if (key := self._known(kid)) is not None:
            if self._age() > FRESH_FOR:
                self._refreshing()
            return key
        if (running := self._refreshing()) is not None:
            try:
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(running)), PATIENCE)
            except TimeoutError:
                raise self._unavailable(f"it has not answered within {PATIENCE:g} s") from None
        if (key := self._known(kid)) is not None:
            return key
        raise self._missing(kid)

    def _age(self) -> float:
        return self._now() - self._published_at

    def _known(self, kid: str) -> VerifyingKey | None:
        return self._keys.keys.get(kid) if self._keys is not None and self._age() <= VALID_FOR else None

    def _missing(self, kid: str) -> KeysUnavailable:
        """Return the error for a key that is not there: because of the issuer's last answer, or of the token."""
        if self._keys is None or self._fault or self._age() > VALID_FOR:
            return self._unavailable(self._fault or "it has not answered yet")
        shown = printable(ascii(kid)[:_LONGEST_SHOWN])
        left_out = "".join(f"; it is not used: {one}" for one in self._keys.left_out[:3])
        text = f"{self.issuer!r} publishes no key with the id that the token names, {shown}{left_out}"
        return KeyUnknown(text, again_in=self._again_in())

    def _unavailable(self, fault: str) -> KeysUnavailable:
        return KeysUnavailable(f"the keys of {self.issuer!r} cannot be fetched: {fault}", again_in=self._again_in())

    def _again_in(self) -> float:
        """Return the seconds until the next request may begin, at least one."""
        return max(self._asked_at + REFRESH_EVERY - self._now(), 1.0)

    def _refreshing(self) -> Future[None] | None:
        """Return the request that runs, or a new one if it is time for it."""
        with self._lock:
            since = self._now() - self._asked_at
            if self._running is not None and not self._running.done() and since < _LOST_AFTER:
                return self._running
            if since < REFRESH_EVERY:
                return None
            self._asked_at = self._now()
            self._running = request = Future[None]()
        threading.Thread(target=self._request, args=(request,), name="paigeant-keys", daemon=True).start()
        return request

    def _request(self, request: Future[None]) -> None:
        """Ask the issuer, in a thread. Every fault of it leaves the keys as they are."""
        where = masked(self.url)
        try:
            keys = jwk.load_keys(self._fetch(self.url))
        except (OSError, ValueError) as error:
            self._failed(request, f"{where}: {printable(str(error))[:_LONGEST_FAULT] or type(error).__name__}")
        except BaseException as error:
            self._failed(request, f"{where}: {type(error).__name__}")
            raise
        else:
            self._succeeded(request, keys)

    def _failed(self, request: Future[None], fault: str) -> None:
        with self._lock:
            if request is self._running:
                self._fault = fault
        log.warning("the keys of the issuer of tokens cannot be fetched", issuer=self.issuer, reason=fault)
        request.set_result(None)

    def _succeeded(self, request: Future[None], keys: KeySet) -> None:
        with self._lock:
            before = self._keys
            if request is self._running:
                self._keys, self._fault, self._published_at = keys, "", self._now()
                if before is None:
                    self._asked_at = -math.inf  # a key that is published right after this answer is found at once
        if keys.left_out and (before is None or before.left_out != keys.left_out):
            log.warning("keys of the issuer of tokens are not used", issuer=self.issuer, reasons=list(keys.left_out))
        request.set_result(None)


def refuse_insecure(url: str) -> None:
    """Raise ConfigurationError for a URL whose answers somebody on the way can change.

    Raises:
        ConfigurationError: it is neither https nor http on this machine.
    """
    where = urlsplit(url)
    is_here = where.scheme == "http" and where.hostname in ("127.0.0.1", "::1", "localhost")
    if where.scheme != "https" and not is_here:
        raise ConfigurationError(f"keys are not fetched from {masked(url)!r}: it is no https URL")


def fetched(url: str) -> bytes:
    """Return the answer of the issuer: at most 64 KiB, and no redirect. Blocks.

    Raises:
        OSError, ValueError: the issuer cannot be reached, or its answer is not what it has to be.
    """
    request = Request(url, headers={"Accept": "application/json", "User-Agent": "paigeant"})
    until = boot_time() + PATIENCE
    try:
        with _opener().open(request, timeout=PATIENCE) as answer:
            if answer.status != 200:
                redirects = " (redirects are not followed)" if 300 <= answer.status < 400 else ""
                raise ValueError(f"the answer has the status {answer.status}{redirects}")
            return _body(answer, until)
    except HTTPException as error:
        raise ValueError(f"the answer is no HTTP: {type(error).__name__}") from None


def _body(answer: HTTPResponse, until: float) -> bytes:
    """Return the bytes of an answer that ends before this time and is not too long."""
    body = b""
    while some := answer.read1(jwk.LIMIT):
        body += some
        if len(body) > jwk.LIMIT:
            raise ValueError(f"the answer is longer than {jwk.LIMIT:,} bytes")
        if boot_time() > until:
            raise TimeoutError(f"the answer has not ended after {PATIENCE:g} s")
    return body


def _opener() -> OpenerDirector:
    """Return an opener that follows no redirect and reads neither files nor other protocols."""
    opener = OpenerDirector()
    for handler in (ProxyHandler(), HTTPHandler(), HTTPSHandler()):
        opener.add_handler(handler)
    return opener

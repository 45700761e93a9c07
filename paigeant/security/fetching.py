"""Fetches public keys from a URL: over https, at most 64 KiB, and from no other place than the URL says."""

from __future__ import annotations

from http.client import HTTPException, HTTPResponse
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from paigeant.errors import ConfigurationError
from paigeant.runtime.clock import boot_time
from paigeant.runtime.urls import masked

LIMIT = 65_536
"""Maximum bytes of an answer."""

PATIENCE = 10.0
"""Seconds for which a server may take to answer."""


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
    """Return the answer of a server: at most 64 KiB, and no redirect. Blocks.

    Raises:
        OSError, ValueError: the server cannot be reached, or its answer is not what it has to be.
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
    while some := answer.read1(LIMIT):
        body += some
        if len(body) > LIMIT:
            raise ValueError(f"the answer is longer than {LIMIT:,} bytes")
        if boot_time() > until:
            raise TimeoutError(f"the answer has not ended after {PATIENCE:g} s")
    return body


def _opener() -> OpenerDirector:
    """Return an opener that follows no redirect and reads neither files nor other protocols."""
    opener = OpenerDirector()
    for handler in (ProxyHandler(), HTTPHandler(), HTTPSHandler()):
        opener.add_handler(handler)
    return opener

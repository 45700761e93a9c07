"""The issuer's keys: when they are fetched, and what a bad answer of the issuer means."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import threading
from typing import Any

import pytest
from http_server import answering
from structlog.testing import capture_logs
from tokens import ISSUER, Issuer

from paigeant.config import load_settings
from paigeant.errors import ConfigurationError, KeysUnavailable, KeyUnknown, TokenRefused
from paigeant.security import issuer as module
from paigeant.security.claims import Tokens
from paigeant.security.issuer import FRESH_FOR, REFRESH_EVERY, VALID_FOR, FetchedKeys

pytestmark = pytest.mark.anyio

URL = "https://login.example/keys"


class Published:
    """What the issuer answers, at a time that the test sets."""

    def __init__(self, *issuers: Issuer) -> None:
        self.issuers = [*issuers]
        self.fault: BaseException | None = None
        self.answer: bytes | None = None
        self.asked = 0
        self.is_asked = threading.Semaphore(0)
        self.now = 1000.0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.keys = FetchedKeys(ISSUER, URL, self.fetch, lambda: self.now)

    def fetch(self, url: str) -> bytes:
        assert url == URL
        self.asked += 1
        self.is_asked.release()
        assert self.may_answer.wait(20)
        if self.fault is not None:
            raise self.fault
        if self.answer is not None:
            return self.answer
        return json.dumps({"keys": [one.keys["keys"][0] for one in self.issuers]}).encode()

    async def knows(self, kid: str) -> bool:
        try:
            return (await self.keys.of(kid)).kid == kid
        except KeyUnknown:
            return False

    async def settled(self) -> None:
        """Wait for the request that runs, if one does."""
        if (running := self.keys._running) is not None:
            await asyncio.wrap_future(running)


@pytest.fixture
def published() -> Published:
    return Published(Issuer("1"))


async def test_keys_are_fetched_once(published):
    """However many tokens arrive at once."""
    assert all(await asyncio.gather(*(published.knows("1") for _ in range(20))))
    assert published.asked == 1


async def test_many_unknown_keys_cost_one_request(published):
    """Every thirty seconds; the first one that finds keys is not counted."""
    assert await published.knows("1")
    for _ in range(3):
        found = await asyncio.gather(*(published.knows(f"unknown-{number}") for number in range(40)))
        assert not any(found)
    assert published.asked == 2
    published.now += REFRESH_EVERY - 1
    assert not await published.knows("unknown")
    assert published.asked == 2
    published.now += 1
    assert not await published.knows("unknown")
    assert published.asked == 3


async def test_a_new_key_is_found_at_once_or_with_the_next_request(published):
    """The error says when that may begin."""
    assert await published.knows("1")
    published.issuers.append(Issuer("2"))
    assert await published.knows("2")
    published.issuers.append(Issuer("3"))
    published.now += 10
    with pytest.raises(KeyUnknown, match="no key with the id that the token names, '3'") as unknown:
        await published.keys.of("3")
    assert unknown.value.again_in == REFRESH_EVERY - 10
    published.now += unknown.value.again_in
    assert await published.knows("3")


async def test_a_known_key_never_waits_for_a_request(published):
    """Neither for one about an unknown key, nor because the keys are not fresh."""
    assert await published.knows("1")
    published.is_asked.acquire()
    published.may_answer.clear()
    waiting = asyncio.ensure_future(published.knows("unknown"))
    await asyncio.to_thread(published.is_asked.acquire)
    assert await published.knows("1")
    published.may_answer.set()
    assert not await waiting
    published.now += FRESH_FOR + 1
    published.may_answer.clear()
    assert await published.knows("1")
    published.may_answer.set()
    await published.settled()
    assert published.asked == 3


async def test_a_key_that_is_published_no_more_verifies_nothing(published):
    """From the next request on."""
    assert await published.knows("1")
    published.issuers[:] = [Issuer("2")]
    published.now += FRESH_FOR + 1
    assert await published.knows("1")
    await published.settled()
    assert not await published.knows("1")


@pytest.mark.parametrize(
    ("fault", "answer", "said"),
    [
        (ConnectionRefusedError("refused"), None, "refused"),
        (TimeoutError(), None, "TimeoutError"),
        (ValueError("status 500"), None, "status 500"),
        (None, b"<html>please log in</html>", "no JSON"),
        (None, b"[]", "no JWK set"),
        (None, b"{}", "no JWK set"),
        (None, b'{"keys": []}', "no key that verifies"),
        (None, b'{"keys": [[1]]}', "no JSON object"),
        (None, b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "1"}]}', "secret key"),
        (None, b'{"keys": [{"kty": "\x1b[31m", "kid": "\\u001b[31m"}]}', "no JSON"),
        (None, b'{"keys": [{"kty": "\\u001b[31m", "kid": "\\u001b[31m"}]}', "is not known here"),
        (None, b"\xff" * 10, "no UTF-8"),
    ],
)
async def test_a_fault_of_the_issuer_is_no_verdict(published, fault, answer, said):
    """The error and the log name the issuer and its fault; the next answer may be right."""
    published.fault, published.answer = fault, answer
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(KeysUnavailable, match=said) as unavailable:
                await published.keys.of("1")
            assert not isinstance(unavailable.value, KeyUnknown)
            assert ISSUER in str(unavailable.value)
            assert str(unavailable.value).isprintable()
    assert published.asked == 1
    (record,) = logs
    assert (record["log_level"], record["issuer"]) == ("warning", ISSUER)
    assert said in record["reason"]
    published.fault = published.answer = None
    published.now += unavailable.value.again_in
    assert await published.knows("1")


async def test_an_issuer_that_is_away_stops_known_keys_only_after_long(published):
    """After an hour somebody may have revoked them."""
    assert await published.knows("1")
    published.fault = OSError("away")
    published.now += VALID_FOR
    assert await published.knows("1")
    await published.settled()
    published.now += 1
    with pytest.raises(KeysUnavailable, match="away"):
        await published.keys.of("1")


async def test_an_unexpected_error_is_a_fault_of_the_issuer_too(published, monkeypatch):
    """No step fails because of it; the thread reports it."""
    raised: queue.SimpleQueue[Any] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", raised.put)
    published.fault = LookupError("unexpected")
    with pytest.raises(KeysUnavailable, match="LookupError"):
        await published.keys.of("1")
    assert (await asyncio.to_thread(raised.get, timeout=20)).exc_type is LookupError


async def test_a_request_that_never_ends_is_given_up(published, monkeypatch):
    """First by those who wait for it, then for another one; its late answer changes nothing."""
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    published.may_answer.clear()
    with pytest.raises(KeysUnavailable, match="has not answered within"):
        await published.keys.of("1")
    published.now += 40
    with pytest.raises(KeysUnavailable, match="has not answered within"):
        await published.keys.of("1")
    assert published.asked == 1
    first, published.now = published.keys._running, published.now + 40
    with pytest.raises(KeysUnavailable, match="has not answered within"):
        await published.keys.of("1")
    assert published.asked == 2
    published.may_answer.set()
    await asyncio.wrap_future(first)
    await published.settled()
    assert await published.knows("1")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_does_not_wait_for_a_request_of_its_parent(published):
    """It has no thread that would answer."""
    published.keys._running = module.Future()
    published.keys._asked_at = published.now
    published.keys.forget_after_fork()
    published.now += REFRESH_EVERY
    assert asyncio.run(published.knows("1"))


async def test_keys_that_are_not_used_are_logged_once(published):
    """And the error about a token that names one says why."""
    published.answer = json.dumps(
        {"keys": [*published.issuers[0].keys["keys"], {"kty": "RSA", "kid": "old", "n": "AQAB", "e": "AQAB"}]}
    ).encode()
    with capture_logs() as logs:
        assert await published.knows("1")
        with pytest.raises(KeyUnknown, match="it is not used: key 'old': it has 17 bits"):
            await published.keys.of("old")
    (record,) = logs
    assert record["reasons"][0].startswith("key 'old'")


@pytest.mark.parametrize("kid", [None, "x" * 257])
async def test_a_token_that_names_no_key_is_refused(published, kid):
    """No request is made for it."""
    with pytest.raises(ValueError, match="names no key"):
        await published.keys.of(kid)
    assert published.asked == 0


# --- over HTTP -------------------------------------------------------------------------------------------------------


def reading(issuer: Issuer, url: str) -> Tokens:
    return Tokens.of(load_settings(**issuer.settings | {"obo_public_key": None, "obo_jwks_url": url}))


async def test_keys_come_from_where_the_issuer_publishes_them():
    """A token without the id of a key is refused."""
    issuer = Issuer()
    with answering(lambda _: (200, json.dumps(issuer.keys))) as (url, asked):
        tokens = reading(issuer, f"{url}/keys")
        assert await tokens.claims(issuer.token())
        with pytest.raises(TokenRefused, match="names no key"):
            await tokens.claims(issuer.signed('{"alg": "ES256"}', json.dumps(issuer.claims())))
    assert asked == ["/keys"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((500, "down"), "status 500"),
        ((302, ""), "redirects are not followed"),
        ((200, "x" * 65_537), "longer than 65,536 bytes"),
    ],
)
async def test_an_answer_that_is_none_is_a_fault(answer, said):
    """Redirects are one, too."""
    issuer = Issuer()
    with answering(lambda _: answer) as (url, asked), pytest.raises(KeysUnavailable, match=said):
        await reading(issuer, url).claims(issuer.token())
    assert len(asked) == 1


async def test_an_issuer_that_cannot_be_reached_is_a_fault():
    """The port is closed."""
    with answering(lambda _: (200, "")) as (url, _):
        pass
    issuer = Issuer()
    with pytest.raises(KeysUnavailable, match="refused"):
        await reading(issuer, url).claims(issuer.token())


@pytest.mark.parametrize("url", ["file:///etc/keys", "http://login.example/keys", "ftp://login.example", "keys.json"])
def test_keys_that_others_may_change_on_their_way_are_not_fetched(url):
    """Only https, or this machine."""
    with pytest.raises(ConfigurationError, match="no https URL"):
        FetchedKeys(ISSUER, url)

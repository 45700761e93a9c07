"""Public keys that are fetched: from https, seldom, and with nothing secret among them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_server import answering

from paigeant.errors import ConfigurationError, KeysUnavailable
from paigeant.security import keyring as module
from paigeant.security.keyring import Keyring, State, UnknownKey
from paigeant.security.remote_keys import FRESH_FOR, Remote
from paigeant.wire import base64url


def jwk(kid: str = "shop-1", **more: Any) -> dict[str, Any]:
    public = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    return {"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64url.encode(public)} | more


def remote(answer: Callable[[], bytes], now: Callable[[], float] = lambda: 0.0) -> Remote:
    return Remote("https://keys.example", lambda _: answer(), now)


def published(*keys: Any) -> Callable[[], bytes]:
    return lambda: json.dumps({"keys": keys}).encode()


def test_keys_have_names_and_states():
    found = remote(published(jwk(paigeant={"name": "shop", "state": "next"}))).read()
    assert (found["shop-1"].name, found["shop-1"].state) == ("shop", State.NEXT)


def test_keys_for_other_purposes_are_left_out():
    """One key makes no other bad."""
    found = remote(published(jwk("a"), jwk("b", use="enc"), {"kty": "new", "kid": "c"}, jwk("../d"))).read()
    assert [*found] == ["a"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (published({"kty": "oct", "kid": "a", "k": "AAAA"}), "secret"),
        (published(jwk(d="AAAA")), "private"),
        (published(jwk("a"), jwk("a")), "two keys have the id"),
        (lambda: b"[]", "no JWK set"),
        (lambda: b"<html>", "JSON"),
        (lambda: b'{"keys":[],"keys":[]}', "keys"),
    ],
)
def test_an_answer_that_is_no_set_of_public_keys_is_refused(answer, reason):
    with pytest.raises(KeysUnavailable, match=reason):
        remote(answer).read()


def test_the_server_is_asked_seldom():
    """Unknown keys in messages of strangers cost the server nothing."""
    asked, now = [], [0.0]

    def answer() -> bytes:
        asked.append(now[0])
        return published(jwk())()

    keys = remote(answer, lambda: now[0])
    for now[0] in (0.0, 1.0, FRESH_FOR - 1, FRESH_FOR, FRESH_FOR + 1):
        keys.read()
    assert asked == [0.0, FRESH_FOR]


def test_a_server_on_this_machine_is_asked_over_http():
    with answering(lambda _: (200, published(jwk())().decode())) as (url, asked):
        assert [*Remote.at(url).read()] == ["shop-1"]
    assert len(asked) == 1


def test_a_redirect_is_not_followed():
    with answering(lambda _: (302, "")) as (url, _), pytest.raises(KeysUnavailable, match="status 302"):
        Remote.at(url).read()


@pytest.mark.parametrize("url", ["http://keys.example/jwks", "file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_urls_whose_answers_others_can_change_are_refused(url):
    with pytest.raises(ConfigurationError, match="no https URL"):
        Remote.at(url)


def test_keys_that_cannot_be_read_any_more_are_forgotten_in_the_end(monkeypatch):
    """Somebody who keeps the keys away must not keep a revoked key alive for ever."""
    now, fails = [0.0], [False]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def answer() -> bytes:
        if fails[0]:
            raise OSError("unreachable")
        return published(jwk())()

    ring = Keyring(remote(answer, lambda: now[0]))
    ring.refresh()
    fails[0] = True
    now[0] = module.VALID_FOR
    ring.refresh()
    assert ring.find("shop-1").name == "shop-1"
    now[0] = 2 * module.VALID_FOR
    with pytest.raises(KeysUnavailable):
        ring.refresh()
    with pytest.raises(UnknownKey):
        ring.find("shop-1")

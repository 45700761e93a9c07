"""The fingerprint of a broker: one for each broker, however its URL is written."""

from __future__ import annotations

import pytest

from paigeant.runtime.urls import fingerprint

SAME = {
    "another login": ("amqp://guest:guest@rabbit/shop", "amqp://shop:s3cret@rabbit:5672/shop"),
    "the root": ("amqp://rabbit", "amqp://rabbit:5672//", "amqp://rabbit/%2F"),
    "this machine": ("redis://localhost", "redis://127.0.0.1:6379/0", "redis://[::1]:6379"),
    "how to talk to it": ("postgresql://db/x?connect_timeout=3", "postgres://db:5432/x"),
    "a driver": ("sqlite+pysqlite:///paigeant.db", "sqlite:///./paigeant.db"),
    "the order of servers": ("postgresql://a:1,b:2/x", "postgresql://b:2,a:1/x"),
}
OTHER = {
    "host": ("amqp://a", "amqp://b"),
    "port": ("redis://a:1", "redis://a:2"),
    "virtual host": ("amqp://a/x", "amqp://a/y"),
    "kind": ("amqp://a", "redis://a"),
    "file": ("sqlite:///a.db", "sqlite:///b.db"),
    "schema": ("postgresql://a/x", "postgresql://a/x?options=-csearch_path%3Dy"),
    "memory": ("memory://", "sqlite://"),
}


@pytest.mark.parametrize("urls", SAME.values(), ids=SAME)
def test_one_broker_has_one_fingerprint(urls):
    """Neither who logs in nor how counts."""
    assert len({fingerprint(url) for url in urls}) == 1


@pytest.mark.parametrize("urls", OTHER.values(), ids=OTHER)
def test_two_brokers_have_two(urls):
    """Whatever tells them apart."""
    assert len({fingerprint(url) for url in urls}) == 2


def test_a_fingerprint_does_not_hold_the_password():
    """It is stored, and the same with every password."""
    assert fingerprint("amqp://u:one@h") == fingerprint("amqp://u:two@h")

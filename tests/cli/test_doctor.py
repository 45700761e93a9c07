"""``paigeant doctor``: what it looks at and what it says of it."""

from __future__ import annotations

import json

from paigeant.doctor import Verdict, _clock, _eviction, _persistence


def test_a_new_folder_is_in_good_health(terminal):
    """Everything is ok on the embedded default, and each finding is one line."""
    done = terminal.run("doctor")

    assert "round trip: published, received and settled in" in done.stdout
    assert all(line.startswith("ok") for line in done.stdout.splitlines())


def test_an_unreachable_broker_is_a_problem(terminal):
    """The exit code says so, and the finding says what to do."""
    done = terminal.run("doctor", "--json", "-b", "amqp://127.0.0.1:1", code=69)
    found = {finding["name"]: finding for finding in json.loads(done.stdout)}

    assert found["broker"]["verdict"] == "problem"
    assert found["broker"]["advice"]


def test_a_volatile_broker_is_a_warning(terminal):
    """Nobody should learn it from a restart."""
    done = terminal.run("doctor", "-b", "memory://")

    assert "warning" in done.stdout


def test_what_a_redis_may_lose_is_said():
    """Persistence and eviction each decide about the promise."""
    kept = {"redis_version": "7.0.15", "aof_enabled": 1, "maxmemory_policy": "noeviction", "maxmemory": 1}

    assert _persistence(kept).verdict is Verdict.OK
    assert _persistence(kept | {"aof_enabled": 0}).verdict is Verdict.WARNING
    assert _eviction(kept).verdict is Verdict.OK
    assert _eviction(kept | {"maxmemory_policy": "allkeys-lru"}).verdict is Verdict.PROBLEM
    assert _eviction(kept | {"maxmemory_policy": "allkeys-lru", "maxmemory": 0}).verdict is Verdict.OK


def test_clocks_that_differ_are_a_warning():
    """Leases go by the server's clock, the history by the machine's."""
    assert _clock("Redis", 0.2).verdict is Verdict.OK
    assert _clock("Redis", -3.0).verdict is Verdict.WARNING

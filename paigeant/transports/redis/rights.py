"""What a user of Redis' access control lists needs, and what one lacks. docs/how-to/use-redis.md has the same lists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import redis

PUBLISHING = (
    "ping", "info", "select", "evalsha", "script|load", "script|exists", "time",
    "type", "exists", "rename", "del", "unlink", "get", "set", "setrange", "incr",
    "sadd", "srem", "smembers", "sismember", "sscan", "hget", "hset", "hsetnx", "hdel", "hmget", "hkeys", "hexists",
    "zadd", "zrem", "zscore", "zcard", "zcount", "zrange", "zrangebyscore",
    "xadd", "xlen", "xrange", "xpending", "xack", "xdel", "xgroup|create", "publish",
)  # fmt: skip
"""Commands of a process that dispatches and looks."""

CONSUMING = ("xreadgroup", "xclaim", "xgroup|delconsumer", "subscribe", "unsubscribe")
"""What a worker needs besides."""

_LASTS = 5000
"""Milliseconds after which the key is gone with which this was tried out."""


def missing(client: redis.Redis, prefix: str, *, consumes: bool = True) -> list[str]:
    """The commands and patterns that the client's user may not use, as an ACL names them; nothing is left behind."""
    key = f"{prefix}doctor:{uuid4().hex}"
    lacking: dict[str, None] = {}
    for name, words in _tries(key, f"{prefix}wake:doctor"):
        if consumes or name not in CONSUMING:
            lacking |= dict.fromkeys(_forbidden(client, name, words, prefix))
    if consumes:
        lacking |= dict.fromkeys(_deaf(client, prefix))
    return list(lacking)


def _forbidden(client: redis.Redis, name: str, words: tuple[Any, ...], prefix: str) -> list[str]:
    try:
        client.execute_command(*words)  # type: ignore[no-untyped-call]
    except redis.exceptions.NoPermissionError as error:
        return [_lacking(name, str(error), prefix)]
    except redis.exceptions.ResponseError:
        pass  # it may be run; here it makes no sense
    return []


def _deaf(client: redis.Redis, prefix: str) -> list[str]:
    with client.pubsub() as pubsub:  # type: ignore[no-untyped-call]
        try:
            pubsub.subscribe(f"{prefix}wake:doctor")
            pubsub.get_message(timeout=1.0)
            pubsub.unsubscribe()
            pubsub.get_message(timeout=1.0)
        except redis.exceptions.NoPermissionError as error:
            return [_lacking("subscribe", str(error), prefix)]
    return []


def _lacking(name: str, said: str, prefix: str) -> str:
    """What the server names, for it may have been a command that goes before; else the one that was tried."""
    if found := re.search("'([^']+)' command", said):
        return f"+{found[1]}"
    if "channel" in said:
        return f"&{prefix}wake*"
    return f"~{prefix}*" if "key" in said else f"+{name}"


def _tries(key: str, channel: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Each command as it changes nothing: on a string of our own, on a key that is not there, or without an effect."""
    script = "return 1"
    yield "set", ("SET", key, "x", "PX", _LASTS)
    for name in ("type", "exists", "get", "incr", "smembers", "hkeys", "zcard", "xlen"):
        yield name, (name.upper(), key)
    for name in ("sadd", "srem", "sismember", "hget", "hdel", "hexists", "hmget", "zrem", "zscore", "xdel"):
        yield name, (name.upper(), key, "0-1")
    yield "setrange", ("SETRANGE", key, 0, "")
    yield "sscan", ("SSCAN", key, 0)
    yield "hset", ("HSET", key, "a", "b")
    yield "hsetnx", ("HSETNX", key, "a", "b")
    yield "zadd", ("ZADD", key, 1, "a")
    for name in ("zcount", "zrange", "zrangebyscore", "xrange"):
        yield name, (name.upper(), key, 0, 0)
    yield "xadd", ("XADD", key, "*", "a", "b")
    yield "xpending", ("XPENDING", key, "g")
    yield "xack", ("XACK", key, "g", "0-1")
    yield "xclaim", ("XCLAIM", key, "g", "c", 0, "0-1")
    yield "xreadgroup", ("XREADGROUP", "GROUP", "g", "c", "STREAMS", key, ">")
    yield "xgroup|create", ("XGROUP", "CREATE", key, "g", "0")
    yield "xgroup|delconsumer", ("XGROUP", "DELCONSUMER", key, "g", "c")
    yield "rename", ("RENAME", f"{key}:none", key)
    yield "unlink", ("UNLINK", f"{key}:none")
    yield "del", ("DEL", key)
    yield "publish", ("PUBLISH", channel, "")
    yield "time", ("TIME",)
    yield "ping", ("PING",)
    yield "info", ("INFO", "server")
    yield "script|load", ("SCRIPT", "LOAD", script)
    yield "script|exists", ("SCRIPT", "EXISTS", "0" * 40)
    yield "evalsha", ("EVALSHA", "0" * 40, 0)

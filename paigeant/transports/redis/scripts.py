"""The scripts of the folder ``lua``, each composed of the shared parts and its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import redis

NAMES = (
    "beat",
    "delete",
    "depth",
    "exchange",
    "greet",
    "migrate",
    "overdue",
    "purge",
    "reclaim",
    "write",
)

_WITH_DELAYED = ("exchange", "migrate", "purge")


@cache
def text(name: str) -> str:
    """Return the whole script of this name."""
    parts = ["common", *(["delayed"] if name in _WITH_DELAYED else []), name]
    folder = files("paigeant").joinpath("transports", "redis", "lua")
    return "\n".join(folder.joinpath(f"{part}.lua").read_text() for part in parts)


def scripts(client: redis.Redis) -> dict[str, Callable[..., Any]]:
    """Return every script by its name. Each is called with ``args=`` and runs on this client."""
    return {name: client.register_script(text(name)) for name in NAMES}

"""One Redis database as the parts of a queue use it: its scripts, the prefix of its keys, and the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

import redis

from paigeant.runtime.clock import Clock
from paigeant.transports.redis import scripts


class Server:
    """A client with the prefix of our keys. ``clock`` replaces the time of Redis, and of this process, in tests."""

    def __init__(self, client: redis.Redis, prefix: str, clock: Clock | None = None) -> None:
        self.redis = client
        self.prefix = prefix
        self.clock = clock

    def script(self, name: str, *words: Any) -> Any:
        """Run a script and return its answer."""
        return self.scripts[name](args=[self.prefix, self.now(), *words])

    @cached_property
    def scripts(self) -> dict[str, Callable[..., Any]]:
        return scripts.scripts(self.redis)

    def now(self) -> int:
        """The time for the scripts: milliseconds by the clock that was given, or 0 for the clock of Redis."""
        return 0 if self.clock is None else int(self.clock.now() * 1000)

    def monotonic(self) -> float:
        """The seconds by which renewals are due."""
        return time.monotonic() if self.clock is None else self.clock.now()

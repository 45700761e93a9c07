"""The messages that a worker without a store has run. A copy of one of them does not run again."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b

MOST = 100_000
"""Number of messages that a worker remembers. The memory takes about 15 MB when it is full."""


@dataclass(slots=True)
class Memory:
    """The latest messages that this worker has run to their end, and those that it runs now."""

    most: int = MOST
    _known: set[bytes] = field(default_factory=set)
    _order: deque[bytes] = field(default_factory=deque)
    _running: Counter[str] = field(default_factory=Counter)

    def add(self, message_id: str) -> None:
        """Remember that this message has ended. The worker forgets the oldest message when the memory is full."""
        key = _key(message_id)
        if key in self._known:
            return
        self._known.add(key)
        self._order.append(key)
        if len(self._order) > self.most:
            self._known.discard(self._order.popleft())

    def __contains__(self, message_id: str) -> bool:
        return _key(message_id) in self._known

    def is_running(self, message_id: str) -> bool:
        """Whether this worker runs the message, or a copy of it, now."""
        return self._running[message_id] > 0

    @contextmanager
    def running(self, message_id: str) -> Iterator[None]:
        """Note that the message runs inside this block."""
        self._running[message_id] += 1
        try:
            yield
        finally:
            self._running[message_id] -= 1
            if not self._running[message_id]:
                del self._running[message_id]


def _key(message_id: str) -> bytes:
    return blake2b(message_id.encode(), digest_size=16).digest()

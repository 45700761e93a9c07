"""Groups what many callers ask of a store at the same time: each group is one call, with one transaction at most."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from queue import SimpleQueue
from typing import Any, TypeVar

from paigeant.errors import StoreRefused
from paigeant.runtime.io_thread import OncePerIteration, answer

T = TypeVar("T")

Handle = Callable[[list[Any]], Sequence[Any]]
"""Handles a whole group in the store's thread. Returns one answer for each request, in their order."""


class Order(IntEnum):
    """The order in which the groups of one batch are handled."""

    STANDING = 0
    SUCCESSORS = 1
    RECORD = 2
    LOOK = 3
    """A question that must see what the same batch records."""
    CHANGE = 4


@dataclass(frozen=True, slots=True)
class Request:
    """One question or change. All requests of a batch that have equal handles form one group."""

    order: Order
    handle: Handle
    what: Any


Asked = tuple[Request, asyncio.Future[Any]]


class Groups:
    """Collects the requests of one turn of the event loop and handles them group by group.

    ``post`` runs a call in the store's thread. ``attempt`` runs a call that uses the database, and repeats it if it may
    succeed then.
    """

    def __init__(
        self,
        post: Callable[[Callable[[], None]], object],
        attempt: Callable[[Callable[[], Sequence[Any]]], Sequence[Any]],
    ) -> None:
        self._attempt = attempt
        self._posting = OncePerIteration(lambda: post(self.flush))
        self._waiting: SimpleQueue[Asked] = SimpleQueue()
        self.flushed: Callable[[], None] = _nothing

    async def ask(self, request: Request) -> Any:
        """Hand the request over, and wait for its answer."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.put((request, future))
        self._posting.ask()
        return await future

    def flush(self) -> None:
        """Answer every request that waits. A second call for the same batch finds nothing to do."""
        batch = [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]
        groups: dict[Handle, list[Asked]] = {}
        for one in sorted(batch, key=_order):
            groups.setdefault(one[0].handle, []).append(one)
        for handle, group in groups.items():
            self._answer(group, handle)
        self.flushed()

    def _answer(self, group: Sequence[Asked], handle: Handle) -> None:
        requests = [request.what for request, _ in group]
        try:
            values = self._attempt(lambda: handle(requests))
        except Exception as error:  # noqa: BLE001 - handed to the callers
            if isinstance(error, StoreRefused) and len(group) > 1:
                for one in group:  # one row that the database refuses must not fail the other requests
                    self._answer([one], handle)
                return
            answer((future, None, error) for _, future in group)
        else:
            answer((future, value, None) for (_, future), value in zip(group, values, strict=True))


def _order(asked: Asked) -> Order:
    return asked[0].order


def _nothing() -> None:
    """No one needs to know that a batch was answered."""

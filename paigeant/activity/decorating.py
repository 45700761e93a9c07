"""The types of ``@app.activity``: they derive a step's output from the function's return type."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any, ParamSpec, Protocol, TypeVar, final, overload

from paigeant.activity.activity import Activity

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Item = TypeVar("Item")
Sent = TypeVar("Sent")


@final
class Unannotated:
    """A type that only a return type of Any matches. Without it, pyright would treat Any as a coroutine."""


class Decorator(Protocol):
    """The decorator that ``@app.activity(...)`` returns. :attr:`Activity.output_type` explains the output's type."""

    @overload
    def __call__(self, function: Callable[P, Unannotated], /) -> Activity[P, Any, Any]: ...
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Item, Sent, T]], /
    ) -> Activity[P, Coroutine[Item, Sent, T], T]: ...
    @overload
    def __call__(self, function: Callable[P, AsyncIterator[T]], /) -> Activity[P, AsyncIterator[T], list[T]]: ...
    @overload
    def __call__(
        self, function: Callable[P, Generator[T, Sent, None]], /
    ) -> Activity[P, Generator[T, Sent, None], list[T]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Generator[Item, Sent, T]], /
    ) -> Activity[P, Generator[Item, Sent, T], T]: ...
    @overload
    def __call__(self, function: Callable[P, Iterator[T]], /) -> Activity[P, Iterator[T], list[T]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Activity[P, R, R]: ...

"""Logs an outage in two lines: one when something first fails, one when it works again, however often it is tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from paigeant.errors import PaigeantError


class Log(Protocol):
    """As much of a logger as an outage needs."""

    def info(self, event: str, **facts: Any) -> Any: ...

    def warning(self, event: str, **facts: Any) -> Any: ...

    def debug(self, event: str, **facts: Any) -> Any: ...


class Outage:
    """Whether one thing that a process does over and over fails at present. ``what`` follows "could not".

    A retry that fails with the same text is logged at debug level only; another text is news, and is a warning again.
    """

    def __init__(self, log: Log, what: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._what = what
        self._clock = clock
        self._reason: str | None = None
        self._began = 0.0
        self._tries = 0

    @property
    def reason(self) -> str | None:
        """The latest error as text, or None while there is no outage."""
        return self._reason

    def failed(self, error: BaseException, **facts: Any) -> None:
        """Note a failure. The text of an error that is not paigeant's may hold data: only its type is logged."""
        reason = str(error) if isinstance(error, PaigeantError) else type(error).__name__
        if self._reason is None:
            self._began, self._tries = self._clock(), 0
        is_news = reason != self._reason
        self._reason = reason
        self._tries += 1
        say = self._log.warning if is_news else self._log.debug
        say(f"could not {self._what}", error=reason, **facts)

    def worked(self, **facts: Any) -> None:
        """Note a success; it costs nothing while there is no outage."""
        if self._reason is None:
            return
        self._reason = None
        seconds = round(self._clock() - self._began, 1)
        self._log.info(f"able to {self._what} again", seconds=seconds, tries=self._tries, **facts)

    @contextmanager
    def noted(self, *kinds: type[Exception]) -> Iterator[None]:
        """Note how the block ends. Errors of these kinds (default: all of paigeant's) end here."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, kinds or PaigeantError):
                raise
            self.failed(error)
        else:
            self.worked()

"""Ends a forked child of a step where the step's code ends, because the child has no worker to return to."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from types import TracebackType


class OneProcess:
    """A context around developers' code. A process that leaves it without having entered it exits there.

    ``os.fork()`` in a step copies the worker's event loop and threads. Without this context, a child that returns, or
    that raises SystemExit, would run as a second copy of the worker.
    """

    def __enter__(self) -> None:
        self._process = os.getpid()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if os.getpid() != self._process:
            _exit(error)


def _exit(error: BaseException | None) -> None:
    """Exit as Python does at the end of a program, but without the parent's exit handlers."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    elif error is not None:
        code = 1
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)

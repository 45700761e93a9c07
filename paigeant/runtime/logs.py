"""Logs: structlog and the standard library through one renderer, one line at a time, to standard error.

On a terminal lines are for people, elsewhere they are JSON. What a step binds (``correlation_id``, ``step``,
``activity``, ``attempt``, ``worker``) is on every line written while it runs, whoever writes it.

What paigeant itself logs never holds an argument, an output, a token or a key, nor the text of an exception that an
activity raised: its type and the workflow's id are logged, the text is in the store (``paigeant workflow ID``).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from io import StringIO
from typing import Any, TextIO

import structlog
from pydantic_core import to_json
from structlog.typing import EventDict, ExcInfo, Processor

from paigeant.runtime import forks
from paigeant.runtime.characters import escaped, escaped_json

QUIET = ("amqp", "asyncio", "httpcore", "httpx", "kombu", "sqlalchemy", "watchfiles")
"""Libraries whose INFO lines hold data, such as URLs with keys in them, or say nothing an operator needs."""

_lock = forks.Lock()


def configure(level: str = "info", format: str = "auto") -> None:  # noqa: A002 - the setting's name
    """Send what paigeant, its libraries and the user's code log to standard error. The last call counts.

    ``level`` is debug, info, warning or error; ``format`` is console, json, or auto: console on a terminal.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    console = format == "console" or (format == "auto" and sys.stderr.isatty())
    processors = _for_people() if console else _for_machines()
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_Output,
        cache_logger_on_first_use=True,
    )
    _route_standard_library(number, processors)
    warnings.showwarning = _show_warning


def hand_over() -> None:
    """Unless the program configured structlog itself: leave what paigeant logs to the standard library's logging."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            _as_sentence,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def _as_sentence(_logger: Any, _method: str, event: EventDict) -> tuple[tuple[str], dict[str, Any]]:
    """The whole line as the message, for handlers that show nothing else; ``exc_info`` is theirs to show."""
    passed_on = {name: event.pop(name) for name in ("exc_info", "stack_info") if name in event}
    words = [str(event.pop("event")), *(f"{name}={value!r}" for name, value in event.items())]
    return (" ".join(words),), passed_on


def _for_machines() -> list[Processor]:
    return [*_common(), structlog.processors.format_exc_info, _json_line]


def _for_people() -> list[Processor]:
    # Not structlog's default for exceptions: it shows the values of local variables.
    render = structlog.dev.ConsoleRenderer(colors=_has_colours(sys.stderr), exception_formatter=_plain_traceback)
    return [*_common(), _harmless, render]


def _plain_traceback(output: TextIO, error: ExcInfo) -> None:
    """Write a traceback whose texts cannot control a terminal."""
    written = StringIO()
    structlog.dev.plain_traceback(written, error)
    output.write(escaped(written.getvalue()))


def _common() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _name_logger,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _has_colours(stream: TextIO) -> bool:
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


# --- where lines go --------------------------------------------------------------------------------------------------


class _Output:
    """Writes lines for one named logger. Standard error is looked up each time: tests and daemons replace it."""

    __slots__ = ("name",)

    def __init__(self, name: str | None = None) -> None:
        self.name = name

    def write(self, line: str) -> None:
        stream = sys.stderr
        try:
            with _lock:
                stream.write(line + "\n")
                stream.flush()
        except (OSError, ValueError):  # nobody reads any more: no reason to stop working
            pass

    msg = log = debug = info = warning = warn = error = err = exception = critical = fatal = failure = write


class _StandardLibrary(logging.Handler):
    """Renders records of the standard library as structlog's own lines."""

    def __init__(self, processors: Sequence[Processor]) -> None:
        super().__init__()
        self._processors = processors

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line: Any = {"event": record.getMessage(), **_extra(record)}
            output = _Output(record.name)
            for process in self._processors:
                line = process(output, record.levelname.lower(), line)
            output.write(line)
        except Exception:  # noqa: BLE001 - logging's own rule: a bad log call must not stop the program
            self.handleError(record)


_RECORD_FIELDS = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


def _extra(record: logging.LogRecord) -> EventDict:
    """What a caller passed as ``extra``, and what the exception was."""
    extra = {name: value for name, value in vars(record).items() if name not in _RECORD_FIELDS}
    if record.exc_info:
        extra["exc_info"] = record.exc_info
    if record.stack_info:
        extra["stack"] = record.stack_info
    return extra


def _route_standard_library(level: int, processors: Sequence[Processor]) -> None:
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, _StandardLibrary)]:
        root.removeHandler(handler)
    root.addHandler(_StandardLibrary(processors))
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _show_warning(message: Warning | str, category: type[Warning], *_place: object, **_more: object) -> None:
    structlog.get_logger("warnings").warning(str(message), category=category.__name__)


# --- one line --------------------------------------------------------------------------------------------------------


def _name_logger(logger: Any, _method: str, event: EventDict) -> EventDict:
    if logger.name is not None:
        event.setdefault("logger", logger.name)
    return event


def _json_line(_logger: Any, _method: str, event: EventDict) -> str:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event")}
    try:
        line = to_json({**first, **event}, fallback=repr, bytes_mode="base64", inf_nan_mode="strings")
        return escaped_json(line.decode())
    except Exception:  # noqa: BLE001 - a repr that raises, a lone surrogate, a circle: the line is written all the same
        return json.dumps({name: _described(value) for name, value in {**first, **event}.items()})


def _described(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001
        return f"<{type(value).__name__} that cannot be shown>"


def _harmless(_logger: Any, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = escaped(value, breaks=name == "event")
    return event

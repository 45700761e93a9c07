"""Observers: functions that receive events after they were recorded. They cannot delay a workflow or make it fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, cast

import structlog

from paigeant.activity import Kind, kind_of
from paigeant.errors import ConfigurationError
from paigeant.events import Event

log = structlog.stdlib.get_logger("paigeant.observers")

Observer = Callable[[Event], None]


def observer_of(function: Any, wanted: tuple[type[Event], ...] = ()) -> Observer:
    """Return the function as an observer of events of these types, or of all events if there are no types.

    Raises:
        ConfigurationError: the function is async.
    """
    if not callable(function) or kind_of(function) is not Kind.SYNC:
        raise ConfigurationError(
            f"{function!r} cannot be an observer", hint="it is a plain function of one event; for async ones see hooks"
        )
    if not wanted:
        return cast(Observer, function)

    @wraps(function)
    def told(event: Event) -> None:
        if isinstance(event, wanted):
            function(event)

    return told


def kinds_of(given: Sequence[Any]) -> tuple[type[Event], ...]:
    """Return these types after a check that each is a type of event.

    Raises:
        ConfigurationError: one of them is not a type of event.
    """
    if not all(isinstance(one, type) and issubclass(one, Event) for one in given):
        raise ConfigurationError("observe takes types of events", hint="@app.observe(WorkflowFailed)")
    return tuple(given)


def tell(observers: Sequence[Observer], events: Sequence[Event]) -> None:
    """Call each observer with each event, and log the errors that observers raise."""
    for observer in observers:
        for event in events:
            try:
                observer(event)
            except Exception as error:
                log.exception("an observer failed", observer=repr(observer), event_type=event.type, error=str(error))

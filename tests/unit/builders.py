"""Slips, messages and executions for unit tests, by hand and by Hypothesis."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from paigeant.decisions.outcome import Execution
from paigeant.wire.log import LogEntry
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.retry import RetryPolicy
from paigeant.wire.slip import ActivitySpec, RoutingSlip

NOW = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)

EXECUTION = Execution(worker="w1", deliveries=1, started_at=100.0, finished_at=101.5)


def slip(*names: str, **fields: Any) -> RoutingSlip:
    """A slip over activities of these names."""
    return RoutingSlip(itinerary=tuple(ActivitySpec(name=name) for name in names), **fields)


def message(*names: str, correlation_id: str = "c1", **fields: Any) -> PaigeantMessage:
    """A message at the start of a slip over activities of these names."""
    return PaigeantMessage(correlation_id=correlation_id, routing_slip=slip(*names), **fields)


def entry(id: str, name: str = "done", output: Any = None) -> LogEntry:  # noqa: A002 - the field's name
    """A completed step."""
    return LogEntry(id=id, name=name, output=output, worker="w1", started_at=NOW, finished_at=NOW)


# --- by Hypothesis ---------------------------------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
labels = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(text, json_values, max_size=3)

policies = st.integers(0, 10).flatmap(
    lambda quick: st.builds(
        RetryPolicy,
        attempts=st.integers(quick + 1, 10**6),
        quick=st.just(quick),
        exhausted=st.sampled_from(["fail", "park"]),
        delay=st.floats(0, 1e6),
        factor=st.floats(1, 1e300),
        max_delay=st.floats(0, 1e6),
        jitter=st.booleans(),
    )
)

specs = st.builds(
    ActivitySpec,
    otherwise=st.lists(st.builds(ActivitySpec, name=labels, arguments=json_objects), max_size=2).map(tuple),
    name=labels,
    queue=st.none() | labels,
    arguments=json_objects,
    prompt=st.none() | text,
    deps=json_values,
    timeout=st.none() | st.floats(0.001, 1e9),
    retry=st.none() | policies,
    priority=st.integers(0, 9),
)

entries = st.builds(
    LogEntry,
    id=st.uuids().map(str),
    name=labels,
    output=json_values,
    attempt=st.integers(1, 9),
    worker=text,
    started_at=st.datetimes(timezones=st.just(UTC)),
    finished_at=st.datetimes(timezones=st.just(UTC)),
)

slips = st.builds(
    RoutingSlip,
    itinerary=st.lists(specs, min_size=1, max_size=4).map(tuple),
    log=st.lists(entries, max_size=3, unique_by=lambda one: one.id).map(tuple),
    variables=json_objects,
)

messages = st.builds(
    PaigeantMessage,
    correlation_id=labels,
    causation_id=st.none() | labels,
    name=labels,
    attempt=st.integers(1, 1000),
    uncounted=st.integers(0, 1000),
    progress=json_values,
    epoch=st.integers(0, 1000),
    routing_slip=slips,
    trace_context=st.dictionaries(text, text, max_size=2),
    obo_token=st.none() | text,
    principal=st.none() | json_objects,
    signature=st.none() | text,
)

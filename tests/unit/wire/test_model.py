from __future__ import annotations

import pytest
from pydantic import ValidationError
from unit.builders import NOW, message, slip

from paigeant.wire.log import LogEntry
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.model import WireModel
from paigeant.wire.retry import RetryPolicy
from paigeant.wire.slip import ActivitySpec, RoutingSlip


class Thing(WireModel):
    size: int = 1
    inner: RetryPolicy | None = None


def test_a_typo_is_refused_where_it_is_written():
    """A misspelt field is not sent to be ignored by a worker."""
    with pytest.raises(ValidationError, match="there is no field 'sise'"):
        Thing(sise=2)


def test_a_typo_inside_another_model_is_refused():
    """Plain dictionaries for inner models are checked as well."""
    with pytest.raises(ValidationError, match="there is no field 'delays'"):
        Thing(inner={"delays": 2})


@pytest.mark.parametrize("read", [Thing.from_json, lambda text: Thing.from_dict({"size": 2, "new": {"a": 1}})])
def test_fields_of_a_newer_release_are_kept(read):
    """A worker in between passes on what only newer ones understand."""
    thing = read('{"size": 2, "new": {"a": 1}}')
    assert thing.to_dict() == {"size": 2, "new": {"a": 1}}


def test_inner_fields_of_a_newer_release_are_kept():
    """At every depth."""
    text = b'{"inner":{"attempts":2,"new":1}}'
    assert Thing.from_json(text).to_json() == text


def test_defaults_are_not_written():
    """A slip grows by what is said, not by what could be."""
    assert Thing().to_json() == b"{}"


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (message("a"), "id"),
        (slip("a"), "itinerary"),
        (ActivitySpec(name="a"), "name"),
        (LogEntry(id="1", name="a", started_at=NOW, finished_at=NOW), "output"),
        (RetryPolicy(), "attempts"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_wire_models_are_frozen(model, field):
    """Every change is a new value, so a message cannot change after its id was derived."""
    with pytest.raises(ValidationError, match="frozen"):
        setattr(model, field, None)


@pytest.mark.parametrize("name", ["nul\x00", "line\nbreak", "escape\x1b[0m", "x" * 256, "\ud800"])
@pytest.mark.parametrize(
    "make",
    [
        lambda name: ActivitySpec(name=name),
        lambda name: ActivitySpec(name="a", id=name),
        lambda name: ActivitySpec(name="a", queue=name),
        lambda name: PaigeantMessage(correlation_id=name, routing_slip=slip("a")),
        lambda name: PaigeantMessage(name=name, routing_slip=slip("a")),
    ],
    ids=["activity", "step id", "queue", "correlation id", "workflow"],
)
def test_names_that_brokers_and_databases_refuse_are_refused_first(make, name):
    """A NUL in a name would be an error of PostgreSQL on every delivery, for ever."""
    with pytest.raises(ValidationError):
        make(name)


def test_names_may_be_of_any_language():
    """Letters are letters."""
    assert RoutingSlip(itinerary=(ActivitySpec(name="überprüfe 検証"),)).itinerary[0].name == "überprüfe 検証"

"""One line when something first fails, one when it works again."""

from __future__ import annotations

import pytest
import structlog
from structlog.testing import capture_logs

from paigeant.errors import StoreError
from paigeant.runtime.outage import Outage


def _outage() -> tuple[Outage, list[float]]:
    now = [100.0]
    return Outage(structlog.get_logger(), "look", clock=lambda: now[0]), now


def test_an_outage_is_two_lines_however_often_it_is_tried():
    """The second one says how long it took."""
    outage, now = _outage()
    with capture_logs() as logs:
        for _ in range(5):
            with outage.noted():
                raise StoreError("away")
            now[0] += 2.0
        for _ in range(3):
            with outage.noted():
                pass
    told = [one for one in logs if one["log_level"] != "debug"]

    assert [(one["log_level"], one["event"]) for one in told] == [
        ("warning", "could not look"),
        ("info", "able to look again"),
    ]
    assert told[0]["error"] == "away"
    assert (told[1]["seconds"], told[1]["tries"]) == (10.0, 5)


def test_another_reason_is_news():
    """Such as a server that starts up and then refuses the login."""
    outage, _ = _outage()
    with capture_logs() as logs:
        for text in ("refused", "refused", "wrong password", "wrong password"):
            outage.failed(StoreError(text))

    assert [one["error"] for one in logs if one["log_level"] == "warning"] == ["refused", "wrong password"]
    assert outage.reason == "wrong password"


def test_errors_of_other_kinds_pass():
    """And leave the state as it was; of an error that is not ours only the type is logged."""
    outage, _ = _outage()
    with pytest.raises(KeyError), outage.noted():
        raise KeyError("data")
    assert outage.reason is None
    with capture_logs() as logs, outage.noted(KeyError):
        raise KeyError("data")

    assert [one["error"] for one in logs] == ["KeyError"]

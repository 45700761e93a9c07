"""Which workflows a step dispatches anew when it is tried again."""

from __future__ import annotations

import pytest
from unit.builders import EXECUTION, message

from paigeant.decisions.children import is_old_failure, with_old_failures
from paigeant.decisions.forward import decide
from paigeant.decisions.outcome import Exhausted, Parked, Retrying
from paigeant.events import ErrorInfo
from paigeant.wire.aside import put_aside, stripped
from paigeant.wire.message import child_key

STATUSES = ("completed", "failed", "cancelled")
RECEIVED = {child_key(one): [{"value": {"status": one, "output": None, "error": None}}] for one in STATUSES}
ERROR = ErrorInfo(type="ChildFailed", message="")


def old(received) -> list[str]:
    return [one for one in (*STATUSES, "unknown") if is_old_failure(received, one)]


@pytest.mark.parametrize(
    ("outcome", "anew"),
    [
        (Retrying(EXECUTION, ERROR, 0.0), ["failed", "cancelled"]),
        (Exhausted(EXECUTION, ERROR), ["failed", "cancelled"]),
        (Parked(EXECUTION, "timer"), []),
    ],
    ids=["another attempt", "an operator's", "the same attempt"],
)
def test_the_next_attempt_knows_what_had_failed(outcome, anew):
    """The same attempt, which waited for something else meanwhile, does not: it has to be told first."""
    plan = decide(message("a", received=RECEIVED), outcome)
    (following,) = [one.message for one in (*plan.send, *plan.hold)]
    assert old(following.received) == anew
    assert old(with_old_failures(following.received)) == ["failed", "cancelled"]


def test_what_is_kept_aside_is_known_as_well():
    """Whichever way it takes."""
    received = with_old_failures(RECEIVED)
    aside, parcels = put_aside(message("a", received=received), 1, 10**6)
    assert parcels
    assert old(aside.received) == old(stripped(aside).received) == ["failed", "cancelled"]
    assert "value" not in aside.received[child_key("failed")][0]

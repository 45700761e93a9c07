"""What the transport's thread does about an error, by what the error concerns: a table."""

from __future__ import annotations

import pytest

from paigeant.transports.pump.backoff import Backoff
from paigeant.transports.pump.diagnosis import LOST, OURS, REFUSED, Diagnosis, Response, Scope, response


@pytest.mark.parametrize(
    ("diagnosis", "together", "wanted"),
    [
        (Diagnosis(Scope.MESSAGE, again=False), 1, Response.REFUSE),
        (Diagnosis(Scope.MESSAGE, again=False), 2, Response.ONE_BY_ONE),
        (Diagnosis(Scope.QUEUE, again=True), 1, Response.REFUSE),
        (Diagnosis(Scope.QUEUE, again=True), 500, Response.ONE_BY_ONE),
        (Diagnosis(Scope.CHANNEL, again=True), 1, Response.RECONNECT),
        (Diagnosis(Scope.CONNECTION, again=True), 500, Response.RECONNECT),
        (Diagnosis(Scope.SERVER, again=True), 1, Response.RECONNECT),
        (Diagnosis(Scope.SERVER, again=False), 0, Response.RECONNECT),
        (LOST, 3, Response.RECONNECT),
        (REFUSED, 3, Response.ONE_BY_ONE),
        (REFUSED, 1, Response.REFUSE),
        (OURS, 1, Response.REFUSE),
        (OURS, 7, Response.ONE_BY_ONE),
    ],
)
def test_only_who_is_concerned_pays(diagnosis, together, wanted):
    """A refusal of one settlement drops no connection, and a lost connection refuses nobody."""
    assert response(diagnosis, together) is wanted


@pytest.mark.parametrize("scope", list(Scope))
def test_without_a_settlement_the_connection_is_made_anew(scope):
    """There is nobody to refuse."""
    assert response(Diagnosis(scope, again=False), 0) is Response.RECONNECT


def test_pauses_grow_to_a_limit_and_are_not_the_same_for_all():
    """Workers that lost one broker do not come back in step."""
    pauses = [[backoff.next() for _ in range(20)] for backoff in (Backoff(1.0, 8.0), Backoff(1.0, 8.0))]
    assert pauses[0] != pauses[1]
    for found in pauses:
        for pause, most in zip(found, [1, 2, 4, *[8] * 17], strict=True):
            assert most / 2 <= pause <= most


def test_after_success_pauses_begin_anew():
    """The next outage is noticed at once."""
    backoff = Backoff(1.0, 8.0)
    for _ in range(5):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= 1.0

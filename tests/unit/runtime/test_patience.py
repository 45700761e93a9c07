"""Waiting out an outage of the store, in virtual time."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from structlog.testing import capture_logs

from paigeant.errors import SchemaTooNew, StoreError, StoreRefused, Superseded
from paigeant.runtime.outage import Outage
from paigeant.runtime.patience import LONGEST_PAUSE, Patience
from paigeant.testing.virtual import run_virtually


class Question:
    """Raises each of these errors once, then answers 42; ``asked`` has the times."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.asked: list[float] = []

    async def __call__(self) -> int:
        self.asked.append(asyncio.get_running_loop().time())
        if self.errors:
            raise self.errors.pop(0)
        return 42


def ask(question: Question, **options: object) -> int:
    outage = Outage(structlog.stdlib.get_logger("test"), "use the store")

    async def main(_: object) -> int:
        return await Patience(outage, **options).ask(question)

    return run_virtually(main)


def test_an_outage_is_waited_out_with_growing_pauses():
    """Two lines in the log say that it began and that it ended."""
    question = Question(*[StoreError("away") for _ in range(10)])
    with capture_logs() as logs:
        assert ask(question) == 42
    pauses = [after - before for before, after in zip(question.asked, question.asked[1:], strict=False)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, *[LONGEST_PAUSE] * 4])
    assert [one["event"] for one in logs if one["log_level"] != "debug"] == [
        "could not use the store",
        "able to use the store again",
    ]


@pytest.mark.parametrize(
    ("error", "options"),
    [(StoreRefused("too large"), {}), (SchemaTooNew("x"), {"hopeless": (SchemaTooNew,)}), (KeyError("x"), {})],
)
def test_what_would_fail_again_is_raised_at_once(error, options):
    """And what is no error of the store."""
    question = Question(error)
    with pytest.raises(type(error)):
        ask(question, **options)
    assert len(question.asked) == 1


def test_what_happens_between_two_tries_may_end_the_waiting():
    """As when the step's lease is lost meanwhile."""
    question = Question(*[StoreError("away") for _ in range(10)])

    async def between() -> None:
        if len(question.asked) == 3:
            raise Superseded()

    with pytest.raises(Superseded):
        ask(question, between=between)
    assert len(question.asked) == 3

"""What a scatter that is tried again begins anew, and what it has already."""

from __future__ import annotations

import pytest
from unit.builders import message

from paigeant.context.rounds import Rounds, unfinished
from paigeant.wire.join import Join

DONE, OTHER = {"output": 1}, {"output": 2, "standing": []}
FAILED, CANCELLED = {"status": "failed", "workflow": "w1"}, {"status": "cancelled", "workflow": "w2"}
ALL, ANY, TWO, SETTLED = (Join.of(3, policy) for policy in ("all", "any", 2, "settled"))


def tried(*ended: dict | None) -> tuple[tuple[dict, ...], ...]:
    return tuple((one,) if one else () for one in ended)


def received(*rounds: tuple[str, list[dict]]) -> dict:
    return {key: [{"value": results}] for key, results in rounds}


@pytest.mark.parametrize(
    ("fields", "came", "key", "tries"),
    [
        ({}, [], "join:1:0:0", tried(None, None, None)),
        ({"epoch": 1}, [("join:1:0:0", [DONE, FAILED, CANCELLED])], "join:1:1:0", tried(DONE, FAILED, CANCELLED)),
        ({"attempt": 2}, [("join:1:0:0", [DONE, FAILED, DONE])], "join:1:0.2:0", tried(DONE, FAILED, DONE)),
        ({"epoch": 2}, [("join:1:0:0", [FAILED, DONE, FAILED]), ("join:1:1:0", [OTHER, CANCELLED])], "join:1:2:0",
         ((FAILED, OTHER), (DONE,), (FAILED, CANCELLED))),
        ({"epoch": 1}, [("join:1:0:0", [DONE, FAILED])], "join:1:1:0", tried(None, None, None)),
        ({"epoch": 1}, [("join:1:0:1", [DONE] * 3), ("join:1:back:0:0", [DONE] * 3)], "join:1:1:0",
         tried(None, None, None)),
        ({}, [("join:1:0:0", [DONE, FAILED, FAILED])], "join:1:0:0", tried(None, None, None)),
    ],
    ids=["first", "redriven", "again", "twice", "of another size", "another scatter", "its own"],
)  # fmt: skip
def test_what_earlier_attempts_left(fields, came, key, tries):
    """Of this scatter of this step, whichever epoch or attempt it was; the attempt's own results are not among it."""
    rounds = Rounds.before(message("a", received=received(*came), **fields), "1", 0, 3)
    assert (rounds.key, rounds.tries) == (key, tries)


@pytest.mark.parametrize(
    ("ended", "join", "missing", "rest"),
    [
        ((None, None, None), ALL, [0, 1, 2], Join(3, 3)),
        ((DONE, FAILED, CANCELLED), ALL, [1, 2], Join(2, 2)),
        ((DONE, DONE, DONE), ALL, [], None),
        ((FAILED, FAILED, CANCELLED), ANY, [0, 1, 2], Join(3, 1)),
        ((CANCELLED, DONE, CANCELLED), ANY, [0, 2], None),
        ((DONE, FAILED, FAILED), TWO, [1, 2], Join(2, 1)),
        ((DONE, FAILED, DONE), SETTLED, [1], Join(1, None)),
        ((DONE, DONE, DONE), SETTLED, [], None),
    ],
)
def test_what_is_begun_again(ended, join, missing, rest):
    """Only what has not completed, and only as much of it as the policy asks for; None: nothing."""
    rounds = Rounds("join:1:1:0", tried(*ended))
    assert rounds.missing == missing
    assert (None if rounds.suffice(join) else rounds.rest(join)) == rest


def test_results_fall_into_their_places():
    """Those of a round that was of another size are taken as they are."""
    rounds = Rounds("join:1:1:0", tried(DONE, FAILED, CANCELLED))
    assert rounds.after([OTHER, FAILED]).ended == [DONE, OTHER, FAILED]
    assert rounds.after([OTHER, FAILED]).workflows(2) == ["w2", "w1"]
    assert rounds.after([OTHER]).ended == [OTHER]


def test_which_branches_may_go_on_from_where_they_stopped():
    """Those that did not complete, of all rounds."""
    came = received(("join:1:0:0", [DONE, FAILED]), ("join:1:1:0", [CANCELLED]), ("signal:x", [FAILED]))
    assert [*unfinished(message("a", received=came))] == ["w1", "w2"]

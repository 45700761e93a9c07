from __future__ import annotations

import pytest

from paigeant.wire.approval import asked, content_of, question_of

SHOWN = asked("Refund?", {"cents": 100})
NAMED = {"correlation_id": "w", "step_id": "1", "epoch": 0, "key": "approval:1:x", "shown": SHOWN}


@pytest.mark.parametrize(
    "other",
    [
        {"correlation_id": "v"},
        {"step_id": "2"},
        {"epoch": 1},
        {"key": "approval:1:y"},
        {"shown": asked("Refund!", {"cents": 100})},
        {"shown": asked("Refund?", {"cents": 101})},
        {"shown": asked("Refund?", None)},
    ],
    ids=repr,
)
def test_every_part_of_a_question_is_in_its_name(other):
    """Whoever answers one of them has answered no other."""
    assert question_of(**NAMED | other) != question_of(**NAMED)


def test_the_order_of_details_does_not_matter():
    """The same question has the same name in every process."""
    one, other = asked("x", {"a": 1, "b": [{"c": 2, "d": 3}]}), asked("x", {"b": [{"d": 3, "c": 2}], "a": 1})
    assert content_of(one) == content_of(other)
    assert question_of(**NAMED | {"shown": one}) == question_of(**NAMED | {"shown": other})
    assert len(question_of(**NAMED)) == 64

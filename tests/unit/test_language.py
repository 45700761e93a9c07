"""The list of phrases that plain English avoids: it finds them, and lets correct English pass."""

from __future__ import annotations

import pytest
from language import faults

BAD = [
    "Only those that stand so.",
    "Only those of this name.",
    "Whatever reads takes --json.",
    "Whoever comes new stands behind those who wait.",
    "What follows an outcome: it is decided, carried out.",
    "What running steps show is among it.",
    "List what waits, for what and since when.",
    "How they must have ended. Can be said again.",
    "Have an agent begin anew, and pay for all of it again.",
    "Let a paused workflow go on.",
    "Take back what was done, then end.",
    "A running step is told, and interrupted after a grace time.",
    "Those that other workflows dispatched as well.",
    "Show the whole of an error.",
    "Least level logged.",
    "The message comes\nagain after a crash.",
    "A star stands for one word.",
    "Run the steps of an App until told to stop.",
    "the dead letter is sent when its time has come",
    "Only list those that are meant.",
]

GOOD = [
    "What is a durable workflow?",
    "What does a step cost?",
    "What happens when a worker dies?",
    "What to do when the broker is down.",
    "Only workflows with this status.",
    "None of them runs again.",
    "Compensate the completed steps, then end the workflow.",
    "Retry a step that failed. It keeps its id.",
    "Run `paigeant retry ID` to go back to the step. It takes effect at once.",
    "`What stands here` is code and `goes on` too.",
    "The worker that takes the lock renews it.",
    "A step can start no more than three agents.",
    "Check that the broker is running.",
    "The store returns what the step returned.",
    "It goes back to the queue and runs again.",
    "Click on the name to see the steps.",
    "The caller decides what the step does.",
    "A compensation takes a step back.",
]


@pytest.mark.parametrize("text", BAD)
def test_a_phrase_of_the_list_is_found(text: str) -> None:
    """Each with advice."""
    assert faults(text)


@pytest.mark.parametrize("text", GOOD)
def test_plain_english_passes(text: str) -> None:
    """A list that refuses correct sentences would not be used."""
    assert faults(text) == []


def test_names_the_line() -> None:
    """A phrase that a line break divides counts for the line it begins on; code does not count."""
    (found,) = faults("First.\n\n```\ngoes on\n```\n\nThe worker goes\non.\n")
    assert found.startswith("line 7: 'goes on'")

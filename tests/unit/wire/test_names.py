from __future__ import annotations

import pytest
from unit.builders import entry, message, slip

from paigeant.errors import InvalidArguments
from paigeant.wire.codec import decode, encode
from paigeant.wire.names import check_log, check_name, check_step
from paigeant.wire.slip import ActivitySpec

ODD = ["wo\u200brk", "\u202ekrow", "work\u2066", "work\ufeff", "wo\u00adrk", "\u3164"]


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_a_name_with_a_hidden_character_is_refused(odd):
    """The error shows it as an escape and names the character."""
    with pytest.raises(InvalidArguments, match=r"^the id of a workflow is '.*': it contains U\+\w+ \(") as refused:
        check_name("the id of a workflow", odd)
    assert str(refused.value).isascii()


@pytest.mark.parametrize("field", ["name", "id", "queue"])
def test_each_name_of_a_step_is_checked(field):
    """Its name, its id, its queue."""
    step = ActivitySpec(**{"name": "work", field: ODD[0]})
    with pytest.raises(InvalidArguments, match=f"the {field} of "):
        check_step(step)


@pytest.mark.parametrize("done", [entry("1", ODD[0]), entry(ODD[0])])
def test_each_name_of_a_log_is_checked(done):
    """A slip that somebody wrote may have one."""
    with pytest.raises(InvalidArguments, match="completed step"):
        check_log(slip("a", log=(done,)))


@pytest.mark.parametrize("name", [None, "", "work", "Bestellung für Ωβδ"])
def test_ordinary_names_are_allowed(name):
    """In every script."""
    check_name("the name of a workflow", name)


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_messages_of_earlier_releases_are_read(odd):
    """A workflow that runs already goes on."""
    one = message(odd, correlation_id=odd, name=odd)
    assert decode(encode(one, 10_000), 10_000) == one

"""Names of agents from the variables that hold them."""

from __future__ import annotations

import sys

import pytest

from paigeant.agents.naming import variable_of


class Thing:
    """Stands for an agent."""


def name_of(value: object) -> str | None:
    return variable_of(value, sys._getframe(1))


top = Thing()


def test_a_variable_that_holds_it_already():
    """Local ones first, then those of the module."""
    writer = Thing()
    assert name_of(writer) == "writer"
    assert name_of(top) == "top"


def test_the_variable_that_takes_what_the_call_returns():
    """As in ``writer = app.activity(Agent(...))``."""
    drafter = name_of(Thing())
    assert drafter == "drafter"


def test_an_attribute_that_takes_it():
    """As in ``self.writer = ...``."""
    holder = Thing()
    holder.critic = name_of(Thing())
    assert holder.critic == "critic"


def test_a_variable_of_an_inner_function():
    """It is a cell: another instruction."""
    poet = name_of(Thing())
    assert (lambda: poet)() == "poet"


def test_a_module_variable(tmp_path):
    """At the top of a module."""
    namespace = {"name_of": name_of, "Thing": Thing}
    exec("scribe = name_of(Thing())", namespace)
    assert namespace["scribe"] == "scribe"


@pytest.mark.parametrize(
    "source",
    [
        "[name_of(Thing())]",
        "given(name_of(Thing()))",
        "x = [name_of(Thing())]",
        "name_of(Thing()).upper()",
    ],
)
def test_what_no_variable_takes_has_no_name(source):
    """Better none than a wrong one."""
    seen = []

    def noted(value):
        seen.append(variable_of(value, sys._getframe(1)))
        return ""

    exec(source, {"name_of": noted, "Thing": Thing, "given": id})
    assert seen == [None]

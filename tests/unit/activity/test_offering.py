from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from paigeant import ActivityContext, App
from paigeant.activity.offering import offer_of


class Customer(BaseModel):
    email: str


class Account(BaseModel):
    owner: Customer
    opened_on: date


class Opaque:
    """Nothing that pydantic knows."""


def open_account(customer: Customer, ctx: ActivityContext, notes: Any = None, *, gift: bool = False) -> Account:
    """Opens an account.

    The second paragraph is for developers.
    """
    raise NotImplementedError


@pytest.fixture
def app():
    return App("shop", "memory://")


def test_an_activity_is_described(app):
    """Its arguments and its output, without what a caller cannot give, and the first line of what it says of itself."""
    offer = offer_of(app.activity(open_account), "shop.open_account", "abc")
    assert (offer.name, offer.queue, offer.version) == ("open_account", "shop.open_account", "abc")
    assert offer.description == "Opens an account."
    assert offer.input["required"] == ["customer"]
    assert set(offer.input["properties"]) == {"customer", "notes", "gift"}
    assert offer.output["properties"].keys() == {"owner", "opened_on"}


@pytest.mark.parametrize(
    ("arguments", "fit"),
    [
        ({"customer": {"email": "a@b.c"}}, True),
        ({"customer": {"email": "a@b.c"}, "gift": True, "notes": [1]}, True),
        ({"customer": {}}, False),
        ({"customer": {"email": "a@b.c"}, "gift": "perhaps"}, False),
        ({"customer": {"email": "a@b.c"}, "more": 1}, False),
        ({}, False),
    ],
)
def test_the_schema_of_arguments_tells_right_from_wrong(app, arguments, fit):
    """It is a JSON Schema by itself, with the models it refers to."""
    offer = offer_of(app.activity(open_account), "q")
    Draft202012Validator.check_schema(offer.input)
    assert Draft202012Validator(offer.input).is_valid(arguments) == fit


def test_what_has_no_schema_is_left_open(app):
    """A type that pydantic cannot describe allows anything; the others are still described."""

    @app.activity
    def odd(kind: type = int, number: int = 1) -> Opaque:
        raise NotImplementedError

    offer = offer_of(odd, "q")
    assert (offer.input["properties"]["kind"], offer.output) == ({}, {})
    assert offer.input["properties"]["number"]["type"] == "integer"

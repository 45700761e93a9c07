"""Results of tools, written as JSON and read again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from math import inf, isnan, nan
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai.messages import BinaryContent, DocumentUrl, ImageUrl, ToolReturn

from paigeant.agents.results import has_files, read, serialized
from paigeant.errors import NotSerializable

LOOKS_LIKE_A_FILE = {
    "kind": "document-url",
    "url": "http://127.0.0.1:9/x",
    "media_type": "text/plain",
    "force_download": "allow-local",
}


class Colour(StrEnum):
    RED = "red"


class Note(BaseModel):
    text: str
    weight: float = nan


@dataclass
class Point:
    x: int


def again(result: Any) -> Any:
    return read(json.loads(json.dumps(serialized("look", result))))


@pytest.mark.parametrize(
    "result",
    [
        None,
        "text",
        1.5,
        inf,
        -inf,
        b"\xff\xfe",
        [1, {"a": [inf, b"x"]}],
        LOOKS_LIKE_A_FILE,
        [LOOKS_LIKE_A_FILE, {"deep": LOOKS_LIKE_A_FILE}],
        {"places": [[["a"], "ImageUrl"]], "data": 1, "is_tool_return": True},
        ImageUrl("https://example.com/a.png"),
        ["a map", ImageUrl("https://example.com/a.png", force_download=True), LOOKS_LIKE_A_FILE],
        {"file": DocumentUrl("https://example.com/a.pdf"), "data": LOOKS_LIKE_A_FILE},
        BinaryContent(b"\x89PNG", media_type="image/png"),
        ToolReturn("done", content=["see", ImageUrl("https://example.com/a.png")], metadata={"at": inf}),
        ToolReturn(LOOKS_LIKE_A_FILE, metadata=LOOKS_LIKE_A_FILE),
    ],
)
def test_what_a_tool_returned_is_the_same_when_it_is_read_again(result):
    """Data is data, whatever it looks like; only what was a file is one."""
    found = again(result)
    assert found == result
    assert type(found) is type(result)
    assert has_files(found) == has_files(result)


@pytest.mark.parametrize(
    ("result", "data"),
    [
        (Point(1), {"x": 1}),
        (Colour.RED, "red"),
        ((1, 2), [1, 2]),
        ({1: "one"}, {"1": "one"}),
        (frozenset([1]), [1]),
    ],
)
def test_what_json_has_no_type_for_is_what_the_model_is_told(result, data):
    """As pydantic writes it."""
    assert again(result) == data


def test_a_number_that_is_not_finite_stays_one_in_a_model():
    """Where pydantic would write null."""
    found = again(Note(text="a"))
    assert found["text"] == "a"
    assert isnan(found["weight"])


def endless() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


class Bad(BaseModel):
    x: Any


@pytest.mark.parametrize(
    "result", [object(), "\ud800", {"\ud800": 1}, endless(), Bad(x=object()), ToolReturn("a", metadata=object())]
)
def test_what_cannot_be_written_is_refused_by_the_name_of_the_tool(result):
    """Whatever the reason."""
    with pytest.raises(NotSerializable, match="the result of tool 'look' cannot be written"):
        serialized("look", result)

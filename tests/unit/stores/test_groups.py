"""Requests of one turn of the event loop are answered in groups, in a fixed order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from paigeant.errors import StoreError, StoreRefused
from paigeant.stores.groups import Groups, Order, Request

pytestmark = pytest.mark.anyio


class Recorder:
    """Notes the groups it is asked to handle. It refuses a group with something bad in it."""

    def __init__(self) -> None:
        self.handled: list[tuple[str, list[str]]] = []

    def answering(self, name: str) -> Callable[[list[str]], Sequence[str]]:
        def handle(whats: list[str]) -> Sequence[str]:
            self.handled.append((name, whats))
            if "bad" in whats:
                raise StoreRefused("it cannot be written")
            if "broken" in whats:
                raise StoreError("the connection broke")
            return [what.upper() for what in whats]

        return handle


def in_this_thread() -> Groups:
    return Groups(lambda flush: flush(), lambda call: call())


async def test_each_kind_is_one_group_and_records_come_before_looks() -> None:
    """A look must see what the same batch records, whichever was asked first."""
    recorder, groups = Recorder(), in_this_thread()
    look, record = recorder.answering("look"), recorder.answering("record")
    requests = [
        Request(Order.LOOK, look, "a"),
        Request(Order.RECORD, record, "b"),
        Request(Order.LOOK, look, "c"),
        Request(Order.RECORD, record, "d"),
    ]
    answers = await asyncio.gather(*map(groups.ask, requests))
    assert (answers, recorder.handled) == (["A", "B", "C", "D"], [("record", ["b", "d"]), ("look", ["a", "c"])])


async def test_a_refused_request_does_not_fail_the_others_of_its_group() -> None:
    """The group is repeated request by request."""
    recorder, groups = Recorder(), in_this_thread()
    record = recorder.answering("record")
    requests = [Request(Order.RECORD, record, what) for what in ("a", "bad", "b")]
    answers: list[Any] = await asyncio.gather(*map(groups.ask, requests), return_exceptions=True)
    assert [type(one) for one in answers] == [str, StoreRefused, str]
    assert [whats for _, whats in recorder.handled] == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]


async def test_a_lost_connection_fails_the_whole_group_and_no_other() -> None:
    """Nothing is repeated, because what the group wrote is unknown."""
    recorder, groups = Recorder(), in_this_thread()
    record, look = recorder.answering("record"), recorder.answering("look")
    requests = [
        Request(Order.RECORD, record, "a"),
        Request(Order.RECORD, record, "broken"),
        Request(Order.LOOK, look, "b"),
    ]
    answers: list[Any] = await asyncio.gather(*map(groups.ask, requests), return_exceptions=True)
    assert [type(one) for one in answers] == [StoreError, StoreError, str]
    assert len(recorder.handled) == 2


async def test_others_are_told_after_all_groups() -> None:
    recorder, groups = Recorder(), in_this_thread()
    groups.flushed = lambda: recorder.handled.append(("told", []))
    await groups.ask(Request(Order.CHANGE, recorder.answering("change"), "a"))
    assert [name for name, _ in recorder.handled] == ["change", "told"]

"""Approvals: what a step asks of people, and what they said."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json

KEY = "approval:"
"""How the keys of messages begin that wait for an approval."""

SHOWN = 12
"""How many digits of a question's name are shown to people."""


class Approval(BaseModel):
    """What was said: by whom, why, and with which arguments in the place of those that were asked about."""

    model_config = ConfigDict(frozen=True)

    approved: bool
    by: str | None = None
    reason: str = ""
    arguments: dict[str, Any] | None = None


def asked(asks: str, details: Any) -> dict[str, Any]:
    """What a question shows to whoever decides, in JSON types."""
    return {"asks": asks, "details": details}


def content_of(shown: Mapping[str, Any]) -> str:
    """A short name for what a question shows: equal questions have the same."""
    return _digest(shown)[:16]


def question_of(correlation_id: str, step_id: str, epoch: int, key: str, shown: Mapping[str, Any]) -> str:
    """The name of one question: 64 hex digits of SHA-256 over what is asked, by which step and in which epoch.

    ``key`` is what the step waits for; it tells equal questions of one step apart.
    """
    return _digest([correlation_id, step_id, epoch, key, shown])


def _digest(value: Any) -> str:
    return sha256(_canonical(value)).hexdigest()


def _canonical(value: Any) -> bytes:
    """JSON with the names of every object in order."""
    return to_json(_sorted(value))


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _sorted(value[name]) for name in sorted(value)}
    if isinstance(value, list | tuple):
        return [_sorted(one) for one in value]
    return value

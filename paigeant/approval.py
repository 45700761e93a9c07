"""Approvals: what a step asks of people, and what they said."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

KEY = "approval:"
"""How the keys of messages begin that wait for an approval."""


class Approval(BaseModel):
    """What was said: by whom, why, and with which arguments in the place of those that were asked about."""

    model_config = ConfigDict(frozen=True)

    approved: bool
    by: str | None = None
    reason: str = ""
    arguments: dict[str, Any] | None = None

"""What a check or an experiment came to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How it came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it came out, what was found and what to do about it."""

    name: str
    verdict: Verdict
    found: str
    advice: str | None = None

"""The result of a check or an experiment."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The rating of a finding."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One result: the subject of the check, its verdict, the observation and optional advice."""

    name: str
    verdict: Verdict
    found: str
    advice: str | None = None

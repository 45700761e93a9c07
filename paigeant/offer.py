"""What a worker offers: an activity as it is announced to others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An activity that a worker serves. ``input`` and ``output`` are JSON Schemas: of its arguments, of its output.

    ``queue`` is the full name of the queue it is served from; ``version`` names the code, as that of the worker does.
    """

    name: str
    queue: str
    description: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)
    output: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""

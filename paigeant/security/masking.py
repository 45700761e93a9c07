"""What is shown of a message never has the token of a user in it."""

from __future__ import annotations

import re

MASK = "(hidden)"

_TOKEN = re.compile(rb'("obo_token"\s*:\s*")(?:[^"\\]|\\.)*')


def masked(body: bytes) -> bytes:
    """The bytes of a message, readable or not, with something else where the token was."""
    return _TOKEN.sub(rb"\1" + MASK.encode(), body)

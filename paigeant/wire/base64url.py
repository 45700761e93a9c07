"""Base64 for URLs without padding, as JOSE uses it: one text for each sequence of bytes."""

from __future__ import annotations

import base64
import binascii
import re

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*")


def encode(data: bytes) -> str:
    """The bytes as text."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes of a text that :func:`encode` returned.

    Raises:
        ValueError: it returns no such text. Python's own function ignores foreign characters and superfluous bits, so
            that many texts decode to the same bytes.
    """
    if _ALPHABET.fullmatch(text) is None:
        raise ValueError("no base64url: it has another character, or padding")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError("no base64url: its length is impossible") from None
    if encode(data) != text:
        raise ValueError("no base64url: its last character has superfluous bits")
    return data

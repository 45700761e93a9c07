"""Nothing that paigeant shows of a message contains the token of a user."""

from __future__ import annotations

import json
import re

MASK = "(hidden)"

_MEMBER = "obo_token"
"""The member of a message that contains the token."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_COLON = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_LIKE_A_TOKEN = re.compile(r"eyJ[\w-]+(?:\.[\w-]*){0,4}")
_ESCAPE = re.compile(r"\\+u([0-9a-fA-F]{4})")
_DECODER = json.JSONDecoder()


def masked(body: bytes) -> bytes:
    """The bytes of a message, readable or not, with something else where a token is or may be.

    In JSON the values of all members ``obo_token`` are replaced, however the name is spelt, and all other bytes stay.
    Of bytes that are no JSON, whatever may be a token is replaced.
    """
    return _masked(body.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _masked(text: str) -> str:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return _without_what_looks_like_tokens(text)
    return _without_members(text)


def _without_members(text: str) -> str:
    """JSON with a mask in the place of each token. It is not parsed and written anew: a member may be there twice."""
    parts, done, at = list[str](), 0, 0
    while (found := _STRING.search(text, at)) is not None:
        at, said = found.end(), json.loads(found[0])
        colon = _COLON.match(text, at)
        if colon is None and _mentions_tokens(said):  # JSON inside a text, for example
            parts += [text[done : found.start()], json.dumps(_masked(said))]
            done = at
        elif colon is not None and said == _MEMBER:
            _, at = _DECODER.raw_decode(text, colon.end())
            parts += [text[done : colon.end()], json.dumps(MASK)]
            done = at
    return "".join([*parts, text[done:]])


def _without_what_looks_like_tokens(text: str) -> str:
    """Other text without everything from the member's name on, and without everything that begins as a JWT does."""
    before, name, _ = text.partition(_MEMBER)
    if not name and _mentions_tokens(text):  # with escapes, or in another encoding: nobody knows where it begins
        return MASK
    return _LIKE_A_TOKEN.sub(MASK, before) + (f'{name}": "{MASK}' if name else "")


def _mentions_tokens(text: str) -> bool:
    return _MEMBER in _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text.replace("\0", ""))

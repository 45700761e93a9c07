"""Reads JSON options of the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from paigeant.cli.errors import WrongUsage
from paigeant.cli.output import brief


def json_object(text: str, option: str) -> dict[str, Any]:
    """The JSON object in this option, or in the file that ``@FILE`` names.

    Raises:
        WrongUsage: the text is not a JSON object, or the file cannot be read.
    """
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise WrongUsage(f"{option}: cannot read {text[1:]!r}: {error}") from error
    try:
        value = parsed(text)
    except ValueError as error:
        example = f"""{option} '{{"name": "Ada"}}'"""
        raise WrongUsage(f"{option} is not JSON: {error}", hint=f"for example: {example}") from error
    if not isinstance(value, dict):
        raise WrongUsage(
            f"{option} is not a JSON object: it is {brief(value, 40)}", hint='for example: {"name": "Ada"}'
        )
    return value


def parsed(text: str) -> Any:
    """The value of a JSON text that was typed.

    Raises:
        ValueError: the text is no JSON, or readers may read it differently.
    """
    from paigeant.wire.strict_json import loads

    try:
        return loads(text, limit=sys.maxsize)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("no JSON: ")) from None

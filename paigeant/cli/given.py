"""Reads JSON options of the command line."""

from __future__ import annotations

import json
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
        value = json.loads(text)
    except ValueError as error:
        example = f"""{option} '{{"name": "Ada"}}'"""
        raise WrongUsage(f"{option} is not JSON: {error}", hint=f"for example: {example}") from error
    if not isinstance(value, dict):
        raise WrongUsage(
            f"{option} is not a JSON object: it is {brief(value, 40)}", hint='for example: {"name": "Ada"}'
        )
    return value

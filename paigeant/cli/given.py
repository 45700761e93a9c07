"""JSON that is given on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from paigeant.cli.errors import WrongUsage
from paigeant.cli.output import brief


def json_object(text: str, option: str) -> dict[str, Any]:
    """The object that this option says, or that is in the file it names with an @.

    Raises:
        WrongUsage: it is none.
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
            f"{option} is no JSON object: it is {brief(value, 40)}", hint='names and values: {"name": "Ada"}'
        )
    return value

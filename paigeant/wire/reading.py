"""Reads the JSON of messages and slips: strictly, and quickly where paigeant wrote it."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json, to_json

from paigeant.wire import strict_json


def read(data: bytes | str) -> Any:
    """Parse JSON in which every reader sees the same; see :mod:`paigeant.wire.strict_json`.

    Raises:
        ValueError: it is no JSON, has a member twice, or has a number that JSON does not have.
    """
    body = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    try:
        parsed = from_json(body, allow_inf_nan=False)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    # What paigeant wrote, it writes again as it was, in a few microseconds. Then nothing was lost in reading.
    return parsed if to_json(parsed, inf_nan_mode="null") == body else strict_json.loads(body, limit=len(body))

"""The options of ``app.dispatch``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, TypedDict

from paigeant.wire.budget import Budget
from paigeant.wire.grant import Grant
from paigeant.wire.times import When


class DispatchOptions(TypedDict, total=False):
    """Options of ``app.dispatch(...)`` beside steps and ``result_type``; :meth:`App.dispatch` explains each."""

    variables: Mapping[str, Any] | None
    name: str | None
    id: str | None
    delay: float | timedelta | None
    eta: datetime | None
    expires: When | None
    deadline: When | None
    idempotency_key: str | None
    obo_token: str | None
    budget: Budget | None
    grant: Grant | None

"""Functions that other threads have the bridge's thread call with the pump, such as to declare or purge a queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paigeant.errors import PaigeantError
from paigeant.runtime.io_thread import AnyFuture, answer
from paigeant.transports.bridge.refusals import Interrupted, refused, unreachable
from paigeant.transports.pump.contract import Pump

Call = tuple[Callable[[Pump], Any], AnyFuture]
"""The function, and the future that gets its value or its error."""


def carry_out(call: Call, pump: Pump, url: str) -> None:
    """Call it. The caller gets any error; it is raised here as well only if the connection is in doubt."""
    function, future = call
    try:
        answer([(future, function(pump), None)])
    except Exception as error:
        if isinstance(error, PaigeantError):
            answer([(future, None, error)])
            return
        if (diagnosis := pump.diagnose(error)).is_narrow:
            answer([(future, None, refused(url, error, diagnosis))])
            return
        told = unreachable(url, error)
        answer([(future, None, Interrupted(*told.args, hint=told.hint))])
        raise

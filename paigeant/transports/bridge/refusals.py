"""The errors that callers of the bridge get when the broker is away, refuses something, or the transport is closed."""

from __future__ import annotations

import structlog

from paigeant.errors import BrokerRefused, PaigeantError, TransportError
from paigeant.runtime.trouble import advice
from paigeant.transports.pump.diagnosis import Diagnosis

log = structlog.stdlib.get_logger("paigeant.transport")


class Interrupted(TransportError):
    """The connection broke during a call, whose outcome is unknown; the broker may be there again at once."""


class Closed(TransportError):
    """The transport was closed meanwhile, and perhaps opened again."""


def unreachable(url: str, error: BaseException) -> PaigeantError:
    """The error for whoever asked a broker that does not answer."""
    if isinstance(error, PaigeantError):
        return error
    default = None if url.startswith("sqlite") else "is it running, and is the URL right?"  # a file does not run
    hint = advice(error) or default
    return TransportError(f"cannot use the broker {url}: {_reason(error)}", hint=hint)


def refused(url: str, error: BaseException, diagnosis: Diagnosis) -> PaigeantError:
    """The error for whoever asked for something that the broker does not take."""
    if isinstance(error, PaigeantError):
        return error
    if diagnosis.is_ours:
        log.error("a fault of paigeant in the transport", broker=url, exc_info=error)
        return BrokerRefused(f"a fault of paigeant: {type(error).__name__}: {_reason(error)}", hint="please report it")
    return BrokerRefused(f"the broker {url} refused it: {_reason(error)}", again=diagnosis.again)


def _reason(error: BaseException) -> str:
    original = getattr(error, "orig", None) or error
    return (str(original).strip() or type(original).__name__).splitlines()[0]

"""Checks on whose behalf a step runs, before it runs: the token, its expiry, and the scopes that the step needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paigeant.activity import Activity
from paigeant.config import CHECKS_TOKENS
from paigeant.decisions.outcome import Returned
from paigeant.errors import KeysUnavailable, KeyUnknown, ScopesMissing, TokenRefused
from paigeant.records.workflow import Standing, Status
from paigeant.runner.run import Run
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.user_token import listed, scopes_of

if TYPE_CHECKING:
    from paigeant.security.claims import Tokens

UNKNOWN_SINCE = "paigeant-key-unknown-since"
"""The header of a message whose token names an unknown key: when a worker first saw that, in epoch seconds."""


@dataclass(frozen=True, slots=True)
class Users:
    """Checks for one worker the users of the messages. ``standing`` reads the standing of a message."""

    tokens: Tokens | None
    standing: Callable[[PaigeantMessage], Awaitable[Standing]]

    async def claims(self, run: Run, activity: Activity[..., Any] | None) -> Mapping[str, Any] | None:
        """Return the claims of the message's token; None if the workflow runs for no user.

        Raises:
            TokenRefused: the token is not valid, or lacks scopes that the activity needs.
            KeysUnavailable: the token cannot be checked now.
            StoreError: the store cannot be read now.
        """
        claims = await self._claims(run)
        if activity is not None:
            _refuse_missing(activity, claims)
        return claims

    async def _claims(self, run: Run) -> Mapping[str, Any] | None:
        message = run.message
        if message.obo_token is None:
            return None
        if self.tokens is None:
            raise TokenRefused(
                f"the workflow carries the token of a user, and this worker cannot check it: set {CHECKS_TOKENS}"
            )
        try:
            return await self.tokens.claims(message.obo_token, expires=not await self._is_compensated(message))
        except KeyUnknown as error:
            if run.clock.now() - _unknown_since(run) < self.tokens.key_patience:
                raise
            raise TokenRefused(f"the token of the user on whose behalf the workflow runs is refused: {error}") from None

    async def _is_compensated(self, message: PaigeantMessage) -> bool:
        """Whether the store says so of the message's workflow; what the message says itself is no proof."""
        return message.routing_slip.is_back and (await self.standing(message)).status is Status.COMPENSATING


def without_keys(run: Run, error: KeysUnavailable) -> Returned:
    """Return the outcome of a step whose token cannot be checked now: it is delivered again when it may be possible."""
    headers = {UNKNOWN_SINCE: f"{_unknown_since(run):.0f}"} if isinstance(error, KeyUnknown) else {}
    return Returned(str(error), error.again_in, grows=True, most=error.again_in, headers=headers)


def _unknown_since(run: Run) -> float:
    """Return when the key of the message's token was first unknown. A time that cannot be right counts as now."""
    now, said = run.clock.now(), run.delivery.headers.get(UNKNOWN_SINCE)
    return min(float(said), now) if isinstance(said, str) and said.isdecimal() and len(said) < 16 else now


def _refuse_missing(activity: Activity[..., Any], claims: Mapping[str, Any] | None) -> None:
    if not activity.scopes:
        return
    if claims is None:
        raise ScopesMissing(f"{activity.name!r} needs {listed(activity.scopes)}, and the workflow runs for no user")
    if missing := activity.scopes - scopes_of(claims):
        raise ScopesMissing(f"{activity.name!r} needs {listed(missing)}, which the token of the user does not have")

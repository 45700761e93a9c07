"""The user for whom a workflow runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paigeant.context.services import Services
from paigeant.context.state import StepState
from paigeant.errors import ConfigurationError
from paigeant.wire.values import copied


@dataclass(frozen=True, slots=True)
class OnBehalf:
    """The claims of the user's token, which the worker has verified, and sessions that act for the user."""

    state: StepState
    services: Services

    @property
    def claims(self) -> Mapping[str, Any] | None:
        """A copy of the claims; None if the workflow runs for no user."""
        claims = self.services.claims
        return None if claims is None else copied(dict(claims))

    @property
    def principal(self) -> str | None:
        """The subject of the token; None if the workflow runs for no user."""
        claims = self.services.claims
        return None if claims is None else str(claims["sub"])

    def assume_web_identity(
        self, role_arn: str, session_name: str | None, duration: int, region: str | None, endpoint_url: str | None
    ) -> Any:
        """A ``boto3.Session`` with the role's credentials, which AWS issues for the workflow's token."""
        from paigeant.security.web_identity import assume_web_identity

        token, principal = self.state.message.obo_token, self.principal
        if token is None or principal is None:
            raise ConfigurationError(
                "the workflow runs on nobody's behalf", hint="dispatch it with the user's token: obo_token=..."
            )
        name = session_name or principal
        return assume_web_identity(
            token, role_arn, session_name=name, duration=duration, region=region, endpoint_url=endpoint_url
        )

"""The user for whom a workflow runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paigeant.context.services import Services
from paigeant.context.state import StepState
from paigeant.errors import ConfigurationError
from paigeant.wire.user_token import scopes_of
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

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes of the token; none if the workflow runs for no user."""
        return scopes_of(self.services.claims or {})

    @property
    def scopes_for_agents(self) -> frozenset[str]:
        """The scopes that steps may need which an agent plans: the activity must declare them, too."""
        return self.scopes & self.services.declared

    @property
    def scopes_to_plan(self) -> frozenset[str]:
        """The scopes that steps may need which are planned here: in an agent and its tools fewer than in other code."""
        return self.scopes_for_agents if self.is_agents else self.scopes

    @property
    def is_agents(self) -> bool:
        """Whether a model decides what happens here: in an agent's step, and in each tool call of an agent."""
        return self.services.is_agent or self.state.unit is not None

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

"""The options of ``@app.activity``."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal, TypedDict

from paigeant.errors import ConfigurationError
from paigeant.runtime.nearest import did_you_mean
from paigeant.wire.retry import ErrorMatch, RetryPolicy

if TYPE_CHECKING:
    from pydantic_ai.usage import UsageLimits


class ActivityOptions(TypedDict, total=False):
    """The options of ``@app.activity(...)``; :meth:`App.activity` explains each."""

    name: str | None
    queue: str | None
    timeout: float | None
    start_timeout: float | None
    heartbeat_timeout: float | None
    retry: RetryPolicy | None
    retry_on: ErrorMatch
    give_up_on: ErrorMatch
    priority: int
    lock: bool | str
    concurrency: int | Mapping[str, int] | None
    rate: str | Mapping[str, str] | None
    scopes: Collection[str]


class AgentOptionsWithoutDeps(ActivityOptions, total=False):
    """The options of ``app.activity(agent, deps=make, ...)`` other than ``deps``."""

    prompt: str | None
    usage_limits: UsageLimits | None
    durable: Literal["step", "model", "full"]
    stream: bool
    tells: Collection[str]


class AgentOptions(AgentOptionsWithoutDeps, total=False):
    """The options of ``app.activity(agent, ...)`` for an agent whose steps carry the deps."""

    deps: None


_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,255}")
"""A scope by RFC 6749: printable ASCII without space, quotation mark and backslash."""


def checked_scopes(activity: str, scopes: Collection[str]) -> frozenset[str]:
    """Return the scopes that an activity needs.

    Raises:
        ConfigurationError: it is no collection of scopes; the error names the one that is wrong.
    """
    if isinstance(scopes, str) or not isinstance(scopes, Collection):
        raise ConfigurationError(f"activity {activity!r}: scopes is {scopes!r}", hint=f"a list: scopes=[{scopes!r}]")
    for one in scopes:
        if not isinstance(one, str) or _SCOPE.fullmatch(one) is None:
            raise ConfigurationError(
                f"activity {activity!r}: {one!r} is no scope",
                hint='a scope is a text without spaces, quotation marks and backslashes: scopes=["orders:read"]',
            )
    return frozenset(scopes)


def refuse_unknown(options: Collection[str], known: Collection[str], what: str) -> None:
    """Raise an error for unknown options. Its hint suggests an option with a similar name.

    Raises:
        ConfigurationError: one of the options does not exist.
    """
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known, f"there are: {', '.join(sorted(known))}")
            raise ConfigurationError(f"{what} has no option {name!r}", hint=hint)

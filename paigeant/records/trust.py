"""The policy of a deployment: it lists what each key may dispatch, run, insert, answer and order. Nothing else is
allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from paigeant.events import StepEvent
from paigeant.wire.canonical import digest_of

BUILT_IN = "paigeant."
"""How the names of the activities begin that every worker serves. Every known key may run them."""

ANYTHING = "*"

CANCEL, PAUSE, RESUME = "cancel", "pause", "resume"
"""The orders about a workflow, by the rights that they need."""

NO_PROOF = "no-proof"
"""The code of what nobody has signed. Where unsigned messages are believed, that is believed, too."""

NO_ORDER = "no-order"
"""The code of a cancellation or a pause that nobody with the right to it has ordered."""

END = "end"
"""The key of a doubt about the end of a workflow. Its ``given`` has the status that the store ``said``,
and the status that it ``is``."""

SHOWN = 12
"""Characters of a policy's digest that people see."""


class Right(StrEnum):
    """A right that a rule gives to a key."""

    DISPATCH = "dispatch"
    """Begin workflows of these names."""
    RUN = "run"
    """Run steps of these activities."""
    INSERT = "insert"
    """Insert steps of these activities, and begin workflows of them from a step, as far as the grant allows."""
    SCOPES = "scopes"
    """Give these scopes to a workflow."""
    ORDER = "order"
    """Do this to workflows: redrive, edit, discard, retry, fork, cancel, pause, resume, adopt."""
    ANSWER = "answer"
    """Answer questions of these activities, and send signals to their steps."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The rights of one key: patterns for each right. A pattern is a name, or the beginning of one and ``*``."""

    name: str
    rights: Mapping[Right, tuple[str, ...]] = field(default_factory=dict)
    spiffe: str | None = None

    def allows(self, right: Right, what: str) -> bool:
        """Whether one of its patterns matches."""
        return self.matching(right, what) is not None

    def matching(self, right: Right, what: str) -> str | None:
        """Return the first of its patterns that matches, or None."""
        return next((pattern for pattern in self.rights.get(right, ()) if matches(pattern, what)), None)


def matches(pattern: str, name: str) -> bool:
    """Whether the name is the pattern, or begins with what stands before its ``*``."""
    return name.startswith(pattern[:-1]) if pattern.endswith(ANYTHING) else name == pattern


@dataclass(frozen=True, slots=True)
class ActivityRule:
    """The needs of an activity's steps: scopes. With ``four_eyes`` the dispatcher may not approve a step."""

    scopes: frozenset[str] = frozenset()
    four_eyes: bool = False


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something that was said to have come for a step, and is not believed: its key, and why."""

    key: str
    code: str
    reason: str
    given: Any = None


@dataclass(frozen=True, slots=True)
class StatementRecord:
    """A signed statement as a store has it. ``message_id``: of the message whose attempt ended, or of the first one.

    ``at`` is epoch seconds.
    """

    correlation_id: str
    message_id: str | None
    token: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofFailed(StepEvent):
    """Something was said to have come for a step, and it has no valid proof: the step waits as if nothing had come.

    Or the store has the end of a step or a workflow, or an output, that no statement proves: ``key`` says which.
    ``given`` is what came, unless it is large.
    """

    type: ClassVar[str] = "proof_failed"

    key: str
    code: str
    reason: str
    given: Any = None


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of a deployment. ``max_age`` is the longest time, in seconds, for which a plan may be valid."""

    audience: str
    rules: Mapping[str, Rule] = field(default_factory=dict)
    activities: Mapping[str, ActivityRule] = field(default_factory=dict)
    max_age: float = 30 * 86_400.0
    leeway: float = 60.0

    def allows(self, key: str, right: Right, what: str) -> bool:
        """Whether this key may do this."""
        if right is Right.RUN and what.startswith(BUILT_IN):
            return key in self.rules
        rule = self.rules.get(key)
        return rule is not None and rule.allows(right, what)

    def beyond(self, key: str, scopes: Iterable[str]) -> list[str]:
        """Return those of these scopes that the key may not give."""
        return sorted(scope for scope in scopes if not self.allows(key, Right.SCOPES, scope))

    @property
    def digest(self) -> str:
        """The digest of the policy, by which workers and people see whether two policies are the same."""
        return digest_of(self._to_dict())

    def _to_dict(self) -> dict[str, Any]:
        """Return the policy as JSON types."""
        rules = {
            name: {right.value: sorted(patterns) for right, patterns in rule.rights.items()} | {"spiffe": rule.spiffe}
            for name, rule in self.rules.items()
        }
        needs = {
            name: {"scopes": sorted(one.scopes), "four_eyes": one.four_eyes} for name, one in self.activities.items()
        }
        return {"audience": self.audience, "max_age": self.max_age, "rules": rules, "activities": needs}

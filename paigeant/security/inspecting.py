"""Looks for mistakes in a trust policy and its keys, and says what the policy allows and why."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from paigeant.errors import ConfigurationError, KeysUnavailable
from paigeant.records.trust import ANYTHING, BUILT_IN, Policy, Right, matches
from paigeant.runtime.nearest import did_you_mean
from paigeant.security import policy as policies
from paigeant.security.keyring import KnownKey, State, source_of

_OF_ACTIVITIES = (Right.RUN, Right.INSERT, Right.ANSWER)


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about a policy that is wrong (``is_fault``), or that may be a mistake."""

    text: str
    is_fault: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a key may do something, and why."""

    right: Right
    what: str
    is_allowed: bool
    why: str


@dataclass(frozen=True, slots=True)
class Trust:
    """A policy with the keys that it is about."""

    path: Path
    policy: Policy
    keys: Mapping[str, KnownKey]

    @classmethod
    def read(cls, path: Path) -> Trust:
        """Read a policy and its keys. May block.

        Raises:
            ConfigurationError: one of them cannot be read, or is wrong.
        """
        policy, where = policies.load(path)
        try:
            return cls(path, policy, source_of(where, path.parent).read())
        except KeysUnavailable as error:
            raise ConfigurationError(str(error), hint=f"{path} says that the keys are in {where}") from error

    # --- check -----------------------------------------------------------------------------------------------------

    def remarks(self, activities: Collection[str] | None = None) -> Iterator[Remark]:
        """Say what is wrong. ``activities`` are those that exist, if that is known."""
        names = {key.name for key in self.keys.values()}
        usable = {key.name for key in self.keys.values() if key.state in (State.CURRENT, State.NEXT)}
        for rule in self.policy.rules.values():
            if rule.name not in names:
                hint = did_you_mean(rule.name, names, f"make one: paigeant keys init {rule.name}")
                yield Remark(f"the [[key]] {rule.name!r} is about a key that nobody has: {hint}")
            elif rule.name not in usable:
                yield Remark(f"all keys of {rule.name!r} are retired or revoked", is_fault=False)
            if not any(rule.rights.values()):
                yield Remark(f"the [[key]] {rule.name!r} allows nothing", is_fault=False)
        for name in sorted(usable - self.policy.rules.keys()):
            yield Remark(f"no [[key]] has the name {name!r}: its keys may do nothing", is_fault=False)
        if activities is not None:
            yield from self._unknown(activities)

    def _unknown(self, activities: Collection[str]) -> Iterator[Remark]:
        for rule in self.policy.rules.values():
            for right in _OF_ACTIVITIES:
                for pattern in rule.rights.get(right, ()):
                    if pattern != ANYTHING and not pattern.startswith(BUILT_IN) and not _exists(pattern, activities):
                        yield Remark(_said(pattern, f"the [[key]] {rule.name!r} ({right})", activities), is_fault=False)
        for name in self.policy.activities:
            if name not in activities:
                yield Remark(_said(name, f"[activity.{name}]", activities), is_fault=False)

    # --- explain ---------------------------------------------------------------------------------------------------

    def explain(self, key: str, right: Right, what: str) -> Answer:
        """Say whether a key, by its name or its id, may do this, and which rule says so."""
        known = self.keys.get(key)
        name = known.name if known is not None else key
        if known is not None and known.state is State.REVOKED:
            return Answer(right, what, False, f"key {key!r} of {name!r} was revoked")
        rule = self.policy.rules.get(name)
        if rule is None:
            hint = did_you_mean(name, self.policy.rules, f"it has: {', '.join(self.policy.rules)}")
            return Answer(right, what, False, f"no [[key]] has the name {name!r}; {hint}")
        if right is Right.RUN and what.startswith(BUILT_IN):
            return Answer(right, what, True, f"every [[key]] may run {BUILT_IN}*")
        if (pattern := rule.matching(right, what)) is not None:
            return Answer(right, what, True, f"the [[key]] {name!r} has {pattern!r} in {right}{self._unusable(name)}")
        has = ", ".join(map(repr, rule.rights.get(right, ())))
        return Answer(right, what, False, f"the [[key]] {name!r} has {right} = [{has}]")

    def _unusable(self, name: str) -> str:
        usable = any(key.name == name and key.state is not State.REVOKED for key in self.keys.values())
        return "" if usable else ", but it has no key"


def _exists(pattern: str, activities: Collection[str]) -> bool:
    return any(matches(pattern, name) for name in activities)


def _said(name: str, where: str, activities: Collection[str]) -> str:
    hint = did_you_mean(name, activities, "")
    return f"{where} names the activity {name!r}, which is not known here" + (f": {hint}" if hint else "")

"""Steps as digests: what a signed plan says of each step, and what a verifier compares with the step of a message.

The digest of a step covers its activity, its queue, its options and, by their digests, its arguments and branches. It
does not cover the id, so that the steps that replace a failed one are recognized under their new ids. Conditions and
replacements stand beside the digest, because a message loses them on its way: a condition that was evaluated, and a
replacement whose condition does not hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from paigeant.wire.canonical import digest_of
from paigeant.wire.claim_check import Holder
from paigeant.wire.condition import Condition
from paigeant.wire.slip import ActivitySpec, RoutingSlip

_MORE = {"depth", "when", "or"}


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step as a plan or an amendment has it: ``digest`` is that of its form, see :func:`form_of`."""

    id: str
    name: str
    digest: str
    depth: int = 0
    when: Condition | None = None
    otherwise: tuple[PlannedStep, ...] = ()

    @classmethod
    def of(cls, step: ActivitySpec) -> Self:
        """Return what a plan says of this step."""
        otherwise = tuple(map(cls.of, step.otherwise))
        return cls(step.id, step.name, digest_of(form_of(step)), step.depth, step.when, otherwise)

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: the data does not have this shape.
        """
        more: Any = {}
        match data:
            case [str(id), str(name), str(digest)]:
                pass
            case [str(id), str(name), str(digest), dict(more)] if more.keys() <= _MORE:
                pass
            case _:
                raise ValueError("a planned step is a list: id, name, digest and, if needed, what goes with them")
        depth, when, otherwise = more.get("depth", 0), more.get("when"), more.get("or", [])
        if type(depth) is not int or not isinstance(otherwise, list):
            raise ValueError("a planned step has a wrong depth or wrong replacements")
        condition = None if when is None else Condition.from_dict(when)
        return cls(id, name, digest, depth, condition, tuple(map(cls.read, otherwise)))

    def to_json(self) -> list[Any]:
        """Return the step as JSON types: a list of three texts and, if there is more to say, an object."""
        more: dict[str, Any] = {"depth": self.depth or None, "when": self.when and self.when.to_dict()}
        more["or"] = [one.to_json() for one in self.otherwise] or None
        said = {name: value for name, value in more.items() if value is not None}
        return [self.id, self.name, self.digest, *([said] if said else [])]

    def allows(self, found: Self, done: Collection[str]) -> bool:
        """Whether a message may have ``found`` in the place of this step, after the steps ``done`` (ids and names).

        Of the plan, only conditions on outputs that are there by now may be missing.
        """
        if (self.name, self.digest, self.depth) != (found.name, found.digest, found.depth):
            return False
        if self.when != found.when and not (found.when is None and self.is_settled_by(done)):
            return False
        return is_rest(found.otherwise, self.otherwise, done)

    def is_settled_by(self, done: Collection[str]) -> bool:
        """Whether its condition is on an output that one of the steps ``done`` gave."""
        return self.when is not None and self.when.output in done

    def as_in(self, place: Self) -> Self:
        """Return the step with the id and depth of another: for comparing what got a new place."""
        return type(self)(place.id, self.name, self.digest, place.depth, self.when, self.otherwise)


def is_rest(found: Sequence[PlannedStep], planned: Sequence[PlannedStep], done: Collection[str]) -> bool:
    """Whether ``found`` are the ``planned`` replacements, in order, without some whose condition was evaluated.

    Their ids and depths do not count: they get them when they are used.
    """
    left = iter(planned)
    for one in found:
        for other in left:
            if other.as_in(one).allows(one, done):
                break
            if not other.is_settled_by(done):
                return False
        else:
            return False
    return all(other.is_settled_by(done) for other in left)


def planned(steps: Iterable[ActivitySpec]) -> tuple[PlannedStep, ...]:
    """Return what a plan says of these steps."""
    return tuple(map(PlannedStep.of, steps))


def form_of(step: ActivitySpec) -> dict[str, Any]:
    """Return the form of a step whose digest a plan has: its values by their digests, wherever they are."""
    form = step.model_dump(mode="json", by_alias=False, exclude_defaults=True, exclude=_APART)
    form |= _digests(step)
    if step.branches:
        form["branches"] = [branch_form(slip) for slip in step.branches]
    return form


_APART = {"id", "when", "otherwise", "depth", "kept", "arguments", "prompt", "deps", "branches"}


def branch_form(slip: RoutingSlip) -> dict[str, Any]:
    """Return the form of a branch: its steps as a plan has them, without ids and depths, and its variables."""
    return {"steps": [step.as_in(_ANYWHERE).to_json() for step in planned(slip.itinerary)], **_digests(slip)}


_ANYWHERE = PlannedStep("", "", "")


def digests_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the digest of each value, by name."""
    return {name: digest_of(value) for name, value in values.items()}


def _digests(holder: Holder) -> dict[str, str]:
    """Return the digests of the holder's values by path, of those stored outside the message too."""
    there = {path: digest_of(value) for path, value in holder.values().items() if path not in holder.kept}
    return there | {path: kept.planned for path, kept in holder.kept.items()}

"""Decides what happens to a message that may kill its worker. Nothing here does I/O.

A broker's delivery count is only a suspicion: restarts, cut connections and killed neighbours raise it too. A suspect
gets a *trial*: it runs alone in its process. Three facts together are evidence that the message kills: its lone run
began, the process did not survive, and no surviving process spared it. ``Limits.trials`` such trials condemn it.

A header of the message contains the state of its trial. The worker changes it by settling the delivery with a copy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from paigeant.decisions.failure import adrift, poison
from paigeant.events import ErrorInfo
from paigeant.transport import Delivery

State = Literal["ready", "doubt"]

HEADER = "paigeant-trial"
"""The header with a message's trial."""

LONE_PERIODS = (5.0, 60.0, 600.0, math.inf)
"""Seconds a suspect runs alone. If its process survived one period and died later, the next period applies."""

_MOST_TRIALS = 3
_SHORTEST_GRACE = 5.0
_READABLE = 10
"""Deliveries of a condemned message after which no worker tries to read it any more."""

_LEAST = 2
"""Deliveries: a message that was started once and did not end is no evidence yet."""

_MOST_LOSSES = 30
"""Trials whose process survived but lost the message, after which it becomes a dead letter: hours with the pauses."""

_USUAL_LOSSES = 10

_LONGEST_PAUSE = 600.0

_TRIAL = re.compile(r"(ready|doubt) ([0-9a-f]{1,32}) (\d) (\d{1,9}) (\d{1,3}) ((?:[0-9a-f]{1,32},){0,9})")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much suspicion and evidence it takes. Survivors have ``grace`` seconds to report before a trial is judged."""

    usual: int
    trials: int
    grace: float

    @classmethod
    def of(cls, max_deliveries: int, lease_seconds: float) -> Limits:
        """Return limits: a message that always kills its worker starts ``max_deliveries`` times, at least twice."""
        most = max(_LEAST, max_deliveries)
        trials = min(_MOST_TRIALS, most - 1)
        return cls(most - trials, trials, max(2 * lease_seconds, _SHORTEST_GRACE))

    def suspects(self, delivery: Delivery) -> bool:
        """Whether the message needs a trial or has one. All other messages run as usual."""
        return delivery.deliveries > self.usual or (HEADER in delivery.headers and has_trial(delivery))


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial of a message.

    ``state``: ready to run alone, or in doubt whether its process died. ``name`` identifies its notes. ``patience`` is
    the index of its lone period. ``before`` counts the deliveries of the message before this copy. ``losses`` counts
    the trials whose process survived and lost the message, and ``fatal`` has the names of those whose process died.
    """

    name: str
    state: State = "ready"
    patience: int = 0
    before: int = 0
    losses: int = 0
    fatal: tuple[str, ...] = ()

    @property
    def lone_period(self) -> float:
        """Seconds in which no other step starts in the process."""
        return LONE_PERIODS[min(self.patience, len(LONE_PERIODS) - 1)]

    def __str__(self) -> str:
        fatal = "".join(f"{one}," for one in self.fatal)
        return f"{self.state} {self.name} {self.patience} {self.before} {self.losses} {fatal}"


def trial_of(headers: Mapping[str, Any]) -> Trial | None:
    """Return the trial in a message's headers; None if it has none, or an unreadable one."""
    found = headers.get(HEADER)
    match = _TRIAL.fullmatch(found) if isinstance(found, str) else None
    if match is None:
        return None
    found_state, name, patience, before, losses, fatal = match.groups()
    state: State = "ready" if found_state == "ready" else "doubt"
    return Trial(name, state, int(patience), int(before), int(losses), tuple(fatal.split(",")[:-1]))


def has_trial(delivery: Delivery) -> bool:
    """Whether the message has a trial in progress."""
    return trial_of(delivery.headers) is not None


# --- decisions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usual:
    """Run the message as any other."""


@dataclass(frozen=True, slots=True)
class Alone:
    """Run the message as soon as nothing else runs in this process."""

    trial: Trial


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Replace the message with a copy that has this trial, due after ``delay`` seconds."""

    trial: Trial
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """Read the evidence, then :func:`judge`."""

    trial: Trial


@dataclass(frozen=True, slots=True)
class Condemn:
    """Make the message a dead letter for this reason. ``deliveries`` counts all deliveries that may have started it.

    ``unread``: processes repeatedly die while they do this, so no worker should read the message.
    """

    reason: ErrorInfo
    deliveries: int
    unread: bool = False


def on_arrival(trial: Trial | None, deliveries: int, limits: Limits, name: str) -> Usual | Alone | Rewrite | Look:
    """Decide what to do with a delivery, before any read. ``name`` is for the next trial, if there is one."""
    match trial:
        case None if deliveries <= limits.usual:
            return Usual()
        case None:
            return Rewrite(Trial(name, before=deliveries - 1))
        case Trial(state="doubt"):
            return Look(trial)
        case _ if deliveries == 1:
            return Alone(trial)
        case _:  # delivered before, to a process that died with it or may still spare it
            before = trial.before + deliveries - 1
            return Rewrite(replace(trial, state="doubt", before=before), limits.grace)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the broker's notes say about a trial in doubt.

    ``began``: its lone run began. ``spared`` names the trials, earlier ones too, whose process survived. ``outlived``:
    its process survived the lone period of this trial.
    """

    began: bool
    spared: Collection[str] = ()
    outlived: bool = False


def judge(trial: Trial, deliveries: int, evidence: Evidence, limits: Limits, name: str) -> Rewrite | Condemn:
    """Decide a trial in doubt. ``name`` is for the next trial, if there is one."""
    is_spared = trial.name in evidence.spared
    fatal = tuple(one for one in trial.fatal if one not in evidence.spared)
    if evidence.began and not is_spared:
        fatal = (*fatal, trial.name)
    before, losses = trial.before + deliveries - 1, trial.losses + is_spared
    if len(fatal) >= limits.trials:
        return Condemn(poison(len(fatal), before), before, unread=deliveries > _READABLE)
    if losses >= _MOST_LOSSES:
        return Condemn(adrift(losses, before), before)
    patience = min(trial.patience + evidence.outlived, len(LONE_PERIODS) - 1)
    return Rewrite(Trial(name, "ready", patience, before, losses, fatal), _pause(losses) if is_spared else 0.0)


def _pause(losses: int) -> float:
    """Seconds until a message that its process lost may run again; the first few losses cause no pause."""
    return min(2.0 ** (losses - _USUAL_LOSSES), _LONGEST_PAUSE) if losses > _USUAL_LOSSES else 0.0

"""The history of a simulation: ordered facts, recorded by the simulated world and not by the code under test."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that became true. ``lease`` numbers the times a message was handed out; ``step`` is a
    step's id, with its heading where that is back.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched(Fact):
    """A workflow was accepted: from here on it must not be lost.

    ``parent`` is the workflow that dispatched it, if one did. ``is_branch``: a scatter of that one began it.
    """

    workflow: str
    parent: str | None = None
    is_branch: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Published(Fact):
    """A broker took a message; ``cause`` is the message that led to it, ``broker`` the name of the broker."""

    message: str
    workflow: str
    cause: str | None
    broker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed(Fact):
    """The broker handed a message to a worker."""

    message: str
    worker: str
    lease: int
    deliveries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed(Fact):
    """A lease ended and the broker has the message again; ``why`` is given up, crash, lost or expired."""

    message: str
    lease: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied(Fact):
    """The broker has one more copy of the message."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked(Fact):
    """The store told a worker whether the message's step had ended; ``number`` identifies this look for later facts."""

    message: str
    worker: str
    done: bool
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered(Fact):
    """A worker called the activity under this lease. Faults that strike before its body come after this fact."""

    message: str
    worker: str
    lease: int
    workflow: str = ""
    step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Fact):
    """The body of a step began, under this lease and after this look at the store (0: none)."""

    message: str
    workflow: str
    step: str
    worker: str
    lease: int
    look: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered(Fact):
    """A worker asked to record a step as completed with these successors. The store may refuse it."""

    message: str
    successors: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Fact):
    """The store has the end of a message's step; ``how`` is the event's type, ``error`` the type of the error.

    ``run`` tells the run that ended like this from the other runs of the message.
    """

    message: str
    workflow: str
    step: str
    how: str
    successors: tuple[str, ...] = ()
    error: str | None = None
    run: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced(Fact):
    """A worker announced that a message's step ended in this run, so it treats this end as the recorded one."""

    message: str
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined(Fact):
    """The store refused the end of a message's step that this run reported, because another run has the message."""

    message: str
    worker: str
    run: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled(Fact):
    """The broker has settled a message; ``stale`` means that the settling worker no longer owned it."""

    message: str
    worker: str
    lease: int
    stale: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced(Fact):
    """The broker has settled a message in favour of a copy of itself that it accepted just before."""

    message: str
    worker: str
    lease: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside(Fact):
    """A message became a dead letter."""

    message: str
    workflow: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowOver(Fact):
    """The end of a workflow was recorded; ``how`` is completed, failed, cancelled or compensated.

    ``left`` are the steps (by id) that could not be compensated.
    """

    workflow: str
    how: str
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopened(Fact):
    """A workflow that had ended runs again, because an operator retried its failed step."""

    workflow: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck(Fact):
    """A planned fault struck."""

    worker: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Fact):
    """The run is idle or its time is over. The fact lists the workflows that still wait and the messages left over."""

    waiting: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(slots=True)
class History:
    """The facts so far."""

    facts: list[Fact] = field(default_factory=list)

    def add(self, fact: Fact) -> None:
        self.facts.append(fact)

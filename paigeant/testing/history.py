"""What happened in a simulation, in order: facts noted where they became true, not by the code that is tested."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that became true. ``lease`` numbers the times a message was handed out; ``step`` is a
    step's id, with its heading where that is back.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched(Fact):
    """A workflow was accepted: from here on it must not be lost."""

    workflow: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Published(Fact):
    """The broker took a message; ``cause`` is the message that led to it."""

    message: str
    workflow: str
    cause: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed(Fact):
    """The broker handed a message to a worker."""

    message: str
    worker: str
    lease: int
    deliveries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed(Fact):
    """The broker took a message back; ``why`` is given up, crash, lost or expired."""

    message: str
    lease: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied(Fact):
    """The broker has the message once more."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked(Fact):
    """The store told a worker whether the message was done with; ``number`` is by what its runs refer to it."""

    message: str
    worker: str
    done: bool
    number: int


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
    """A worker asked to have a step recorded as completed, to be followed by these messages; it may be refused."""

    message: str
    successors: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Fact):
    """The store has the end of a message's step; ``how`` is the event's type, ``error`` that of what failed."""

    message: str
    workflow: str
    step: str
    how: str
    successors: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled(Fact):
    """The broker has let a message go for good; ``stale`` when its doer did not own it any more."""

    message: str
    worker: str
    lease: int
    stale: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside(Fact):
    """A message became a dead letter."""

    message: str
    workflow: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowOver(Fact):
    """The end of a workflow was recorded; ``how`` is completed, failed or cancelled."""

    workflow: str
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck(Fact):
    """A planned fault came true."""

    worker: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Fact):
    """Nothing goes on any more, or the time is over: workflows that wait for what did not come, messages left over."""

    waiting: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(slots=True)
class History:
    """The facts so far."""

    facts: list[Fact] = field(default_factory=list)

    def add(self, fact: Fact) -> None:
        self.facts.append(fact)

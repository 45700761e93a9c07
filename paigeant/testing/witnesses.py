"""Facts outside of the protocol: effects, guarded calls, units of agents and acts of operators."""

from __future__ import annotations

from dataclasses import dataclass

from paigeant.testing.history import Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect(Fact):
    """A body had the effect ``token``, or undid it. The step may still crash before its end is recorded."""

    token: str
    is_undone: bool
    workflow: str
    step: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedCall(Fact):
    """A call ran that needs an approval; ``place`` tells it from other calls of its step, ``shown`` is its content."""

    workflow: str
    step: str
    place: str
    shown: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown(Fact):
    """A step asked a question; ``shown`` is the content that people see."""

    workflow: str
    question: str
    shown: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided(Fact):
    """Somebody began to answer the question that was shown."""

    workflow: str
    question: str
    approved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Overruled(Fact):
    """The answer to a question was rejected, because the question is no longer open."""

    workflow: str
    question: str
    approved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitDone(Fact):
    """An agent's model was asked or its tool was called, by the run that has this lease."""

    workflow: str
    step: str
    key: str
    lease: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRecorded(Fact):
    """The journal has a unit of an agent, with its usage."""

    workflow: str
    step: str
    key: str
    requests: int = 0
    tool_calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Used(Fact):
    """The usage of agents according to the record of a completed workflow."""

    workflow: str
    requests: int
    tool_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Fact):
    """An operator began an act on a workflow: cancel, pause, resume, retry and so on; ``number`` tells acts apart."""

    number: int
    act: str
    workflow: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted(Fact):
    """The call of the operator's act with this number returned."""

    number: int
    act: str
    workflow: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRejected(Fact):
    """The operator's act with this number raised an error; ``why`` is its text."""

    number: int
    act: str
    workflow: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswerable(Fact):
    """In an idle run a message waited for ``key``, and nobody can answer it; ``why`` is the reason."""

    workflow: str
    key: str
    why: str

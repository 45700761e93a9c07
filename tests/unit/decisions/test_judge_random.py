"""Random courses of workflows between three services: what is honest is trusted, and every change is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from services import ALL, RAN, Deployment, Service, bodies

from paigeant import ActivitySpec
from paigeant.decisions.outcome import Completed, Edits, Faulted, Outcome, Retrying
from paigeant.errors import KeysUnavailable, MessageError
from paigeant.events import ErrorInfo
from paigeant.wire.frame import Frame, cut
from paigeant.wire.log import Undo

OWNER = {"check": "shop", "pack": "shop", "charge": "bank", "audit": "bank", "mail": "ops"}
"""Which service serves which activity."""

RIGHTS: dict[str, dict[str, Any]] = {
    name: {"run": [act for act, owner in OWNER.items() if owner == name], "insert": ["*"]}
    for name in ("shop", "bank", "ops")
}
RIGHTS["shop"] |= {"dispatch": ALL["dispatch"]}
RIGHTS["thief"] = {}
DEPLOYMENT = Deployment(RIGHTS)
SERVICES = {name: DEPLOYMENT[name] for name in RIGHTS}
NO = ErrorInfo(type="ValueError", message="no")

OFTEN = settings(max_examples=150, deadline=None, derandomize=True, database=None)
VERY_OFTEN = settings(OFTEN, max_examples=10_000, derandomize=False)

activities = st.sampled_from(sorted(OWNER))
values = st.none() | st.integers(-3, 3) | st.text(max_size=3)


@st.composite
def steps(draw: st.DrawFn) -> ActivitySpec:
    name = draw(activities)
    arguments = draw(st.dictionaries(st.sampled_from("abc"), values, max_size=2))
    return ActivitySpec(name=name, queue=f"q.{name}", arguments=arguments)


@dataclass(frozen=True)
class Turn:
    """How the step of one message ends."""

    output: Any
    variables: dict[str, Any]
    inserted: tuple[ActivitySpec, ...]
    undo: Undo | None
    how: str


turns = st.builds(
    Turn,
    output=values,
    variables=st.dictionaries(st.sampled_from("xyz"), values, max_size=2),
    inserted=st.lists(steps(), max_size=2).map(tuple),
    undo=st.none() | st.builds(Undo, queue=st.just("q.undo"), arguments=st.dictionaries(st.just("n"), values)),
    how=st.sampled_from(["completed", "completed", "completed", "retried", "failed"]),
)
courses = st.tuples(st.lists(steps(), min_size=1, max_size=5), st.lists(turns, max_size=8))


def outcome(turn: Turn, *, is_back: bool) -> Outcome:
    if turn.how == "retried":
        return Retrying(RAN, NO, 1.0)
    if is_back:
        return Completed(RAN, turn.output)
    if turn.how == "failed":
        return Faulted(RAN, NO)
    return Completed(RAN, turn.output, turn.variables, Edits(insert=turn.inserted), undo=turn.undo)


def messages(course: tuple[list[ActivitySpec], list[Turn]], workflow: str = "wf") -> list[tuple[Service, bytes]]:
    """All messages of a workflow, each with the service that receives it."""
    planned, ends = course
    body = SERVICES["shop"].begin(*planned, id=workflow)
    there = list[tuple[Service, bytes]]()
    for turn in [*ends, None]:
        message = SERVICES["shop"].open(body)
        service = SERVICES[OWNER[message.step.name]]
        there.append((service, body))
        if turn is None:
            break
        followers = bodies(service.packed(body, outcome(turn, is_back=message.routing_slip.is_back)))
        if not followers:
            break
        [body] = followers
    return there


def every_honest_message_is_trusted(course: Any) -> None:
    """By the service that serves its step, and whatever happened before it."""
    for service, body in messages(course):
        service.open(body)
        assert len(cut(body, 10**6).links) <= 2 + len(course[1])


def is_refused(service: Service, body: bytes) -> None:
    """Nothing but these errors ever comes of it: no worker ends, and no step runs."""
    with pytest.raises((MessageError, KeysUnavailable)):
        service.open(body)


def flipped(frame: Frame, data: st.DataObject) -> bytes:
    """One byte is another one."""
    body = bytearray(frame.to_bytes())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    return bytes(body)


def truncated(frame: Frame, data: st.DataObject) -> bytes:
    body = frame.to_bytes()
    return body[: data.draw(st.integers(0, len(body) - 1))]


def without_a_link(frame: Frame, data: st.DataObject) -> bytes:
    links = list(frame.links)
    if links:
        links.pop(data.draw(st.integers(0, len(links) - 1)) if data.draw(st.booleans()) else -1)
        if links and frame.links[-1] == links[-1]:  # an older link matters only for what it proves
            links = []
    else:
        return frame.to_bytes()[1:]
    return replace(frame, links=tuple(links)).to_bytes()


def doubled(frame: Frame, data: st.DataObject) -> bytes:
    if not frame.links:
        return replace(frame, message=frame.message + b" ").to_bytes()
    at = data.draw(st.integers(0, len(frame.links) - 1))
    return replace(frame, links=(*frame.links[: at + 1], *frame.links[at:])).to_bytes()


CHANGES: list[Callable[[Frame, st.DataObject], bytes]] = [flipped, truncated, without_a_link, doubled]


def every_change_of_what_travels_is_refused(course: Any, data: st.DataObject) -> None:
    service, body = data.draw(st.sampled_from(messages(course)))
    changed = data.draw(st.sampled_from(CHANGES))(cut(body, 10**6), data)
    if changed != body:
        is_refused(service, changed)


def what_is_spliced_from_two_workflows_is_refused(one: Any, other: Any, data: st.DataObject) -> None:
    """The plan of one and the links or the bytes of another."""
    service, first = data.draw(st.sampled_from(messages(one)))
    _, second = data.draw(st.sampled_from(messages(other, "other")))
    ours, theirs = cut(first, 10**6), cut(second, 10**6)
    for spliced in (
        replace(ours, plan=theirs.plan),
        replace(ours, message=theirs.message),
        replace(ours, links=theirs.links, message=theirs.message),
        replace(ours, links=(*ours.links, *theirs.links), message=theirs.message) if theirs.links else None,
    ):
        if spliced is not None:
            is_refused(service, spliced.to_bytes())


def what_a_thief_signs_is_refused(course: Any, turn: Turn, data: st.DataObject) -> None:
    """A known key without rights, and the key of a service that does not serve the step."""
    service, body = data.draw(st.sampled_from(messages(course)))
    message = service.open(body)
    others = [one for one in SERVICES.values() if one.name != service.name]
    if message.routing_slip.is_back:
        others = [SERVICES["thief"]]
    liar = data.draw(st.sampled_from(others))
    for follower in bodies(liar.packed(body, outcome(turn, is_back=message.routing_slip.is_back))):
        is_refused(service, follower)


COURSES: list[tuple[Callable[..., None], tuple[st.SearchStrategy[Any], ...]]] = [
    (every_honest_message_is_trusted, (courses,)),
    (every_change_of_what_travels_is_refused, (courses, st.data())),
    (what_is_spliced_from_two_workflows_is_refused, (courses, courses, st.data())),
    (what_a_thief_signs_is_refused, (courses, turns, st.data())),
]
each = pytest.mark.parametrize(("check", "strategies"), COURSES, ids=[check.__name__ for check, _ in COURSES])


@each
def test_random_courses(check: Any, strategies: Any) -> None:
    OFTEN(given(*strategies)(check))()


@each
@pytest.mark.endurance
@pytest.mark.timeout(1200)
def test_ten_thousand_random_courses(check: Any, strategies: Any) -> None:
    """Other ones each time."""
    VERY_OFTEN(given(*strategies)(check))()

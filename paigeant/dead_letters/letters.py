"""The dead letters of an App: to look at, send again, change and throw away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal, TypedDict, Unpack

from paigeant.activity import Activity
from paigeant.dead_letters.box import LetterBox, Opened
from paigeant.decisions.attest import Order
from paigeant.decisions.plan import Send, Settle
from paigeant.dispatch.catalog import Catalog
from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.errors import (
    DeadLetterError,
    DeadLetterNotFound,
    InvalidArguments,
    MessageError,
)
from paigeant.events import LetterKind
from paigeant.records.workflow import DeadLetter, Letters
from paigeant.runtime.clock import Clock
from paigeant.runtime.nearest import did_you_mean
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec
from paigeant.wire.times import Times, When
from paigeant.wire.values import jsonable_each


class Filters(TypedDict, total=False):
    """Which dead letters are meant: those that are all of what is said.

    ``kind`` is exhausted, poison, refused, unreadable or untrusted; ``queue`` is the full name of the one it came from;
    ``reason`` is a part of the text, ``error`` the type of the step's error, ``code`` that of a refusal. ``workflow``
    is an id, also one that a refused message only claims. ``older_than`` and ``newer_than`` are seconds, or a
    timedelta.
    """

    kind: LetterKind | str | None
    queue: str | None
    activity: str | None
    reason: str | None
    error: str | None
    workflow: str | None
    code: str | None
    older_than: float | timedelta | None
    newer_than: float | timedelta | None


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of many dead letters, by their ids: those that were ``done``, and why the others were not."""

    done: Sequence[int | str] = ()
    refused: Mapping[int | str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """The dead letters of one store, or without a store those of one App's queue ``<prefix>.dead-letter``.

    Raises everywhere:
        TransportError, StoreError: broker or store cannot be reached.
    """

    box: LetterBox
    dispatcher: Dispatcher
    catalog: Catalog
    clock: Clock

    async def list(self, limit: int = 100, **filters: Unpack[Filters]) -> Sequence[DeadLetter]:
        """Those that are meant, the latest first."""
        async with self.box.opened(self.meant(**filters), most=limit) as letters:
            return [one.letter async for one in letters]

    async def count(self, **filters: Unpack[Filters]) -> int:
        """How many are meant."""
        return await self.box.count(self.meant(**filters))

    async def get(self, id: int | str) -> DeadLetter:  # noqa: A002 - the field's name
        """Return one dead letter.

        Raises:
            DeadLetterNotFound: no dead letter has this id.
        """
        async with self.box.opened(Letters(), [str(id)]) as letters:
            async for one in letters:
                return one.letter
        raise _no_such(id)

    def message(self, letter: DeadLetter) -> PaigeantMessage:
        """What a dead letter carries.

        Raises:
            DeadLetterError: its bytes are no message that this release accepts.
        """
        return self.box.message(letter)

    # --- one -------------------------------------------------------------------------------------------------

    async def redrive(
        self,
        id: int | str,  # noqa: A002
        *,
        by: str | None = None,
        fresh: bool = False,
    ) -> PaigeantMessage:
        """Send it again: the same step of the same workflow from its first attempt, under the next epoch; as this.

        A workflow that had failed goes on with it. Redriven twice at once, it runs once. The finished model requests
        and tool calls of an agent's step are not made again, unless it is to be ``fresh`` or was edited.

        Raises:
            DeadLetterNotFound: there is none, or somebody else was quicker.
            DeadLetterError: it cannot be read, or its workflow has gone on without it.
        """
        async with self.box.opened(Letters(), [str(id)]) as letters:
            async for one in letters:
                return await one.redrive(by, fresh=fresh)
        raise _no_such(id)

    async def discard(
        self,
        id: int | str,  # noqa: A002
        *,
        by: str | None = None,
        note: str = "",
        vouch: bool = False,
    ) -> None:
        """Throw it away. If its workflow waits for it, its step has failed, and what follows from that follows.

        A refused message only claims to belong to a workflow, which does not change; with ``vouch`` you say that the
        claim is true.

        Raises:
            DeadLetterNotFound: there is none, or somebody else was quicker.
        """
        async with self.box.opened(Letters(), [str(id)]) as letters:
            async for one in letters:
                return await one.discard(by, note, vouch=vouch)
        raise _no_such(id)

    async def edit(
        self,
        id: int | str,  # noqa: A002
        *,
        arguments: Mapping[str, Any] | None = None,
        without: Collection[str] = (),
        prompt: str | None = None,
        variables: Mapping[str, Any] | None = None,
        deadline: When | Literal["none"] | None = None,
        obo_token: str | None = None,
        by: str | None = None,
    ) -> DeadLetter:
        """Change what it carries: some of its step's arguments, its prompt, some of the workflow's variables.

        ``without`` names arguments to leave out. ``deadline`` is another one for the workflow, from now on, or
        ``"none"``, and ``obo_token`` another token of the user. It stays a dead letter until it is redriven.

        Raises:
            DeadLetterNotFound, DeadLetterError: there is none, or it cannot be read.
            InvalidArguments: a name or value that does not fit the activity, as far as that is known here.
            MessageTooLarge, NotSerializable: the message cannot be written.
        """
        changes = _Changes(
            arguments=dict(arguments or {}),
            without=tuple(without),
            prompt=prompt,
            variables=dict(variables or {}),
            deadline=self._deadline(deadline),
            obo_token=obo_token,
        )
        async with self.box.opened(Letters(), [str(id)]) as letters:
            async for one in letters:
                return await self._edit(one, changes, by)
        raise _no_such(id)

    def _deadline(self, deadline: When | Literal["none"] | None) -> float | Literal["none"] | None:
        if deadline is None or isinstance(deadline, str):
            return deadline
        return Times.of(self.clock.now(), deadline=deadline).deadline

    async def _edit(self, opened: Opened, changes: _Changes, by: str | None) -> DeadLetter:
        message = self.box.message(opened.letter)
        changed = self._serialized(changes, message).applied_to(message)
        self._check(changed.step, is_back=changed.routing_slip.is_back)
        plan = Settle(send=(Send(changed),))
        [encoded] = self.dispatcher.packing.packed(plan, self.clock.now(), message, Order("edit")).outgoing
        await self.dispatcher.keep([encoded])
        return await opened.replace(encoded.body, changes.names, by)

    def _serialized(self, changes: _Changes, message: PaigeantMessage) -> _Changes:
        """The changes as JSON types, as far as it is known here who reads them."""
        slip = message.routing_slip
        activity = self._activity(message.step, is_back=slip.is_back)
        given = changes.arguments
        arguments = jsonable_each(given, "argument") if activity is None else activity.serialize(given)
        readers = () if slip.is_back else slip.itinerary
        return replace(changes, arguments=arguments, variables=self.catalog.serialize(changes.variables, readers))

    def _activity(self, step: ActivitySpec, *, is_back: bool) -> Activity[..., Any] | None:
        known = self.catalog.find(step.name)
        return known.compensation if known is not None and is_back else known

    def _check(self, step: ActivitySpec, *, is_back: bool) -> None:
        activity = self._activity(step, is_back=is_back)
        if activity is not None:
            activity.refuse_unknown(step.arguments)
            activity.refuse_wrong(step.arguments)

    # --- many ------------------------------------------------------------------------------------------------

    async def redrive_all(self, *, by: str | None = None, fresh: bool = False, **filters: Unpack[Filters]) -> Handled:
        """:meth:`redrive` those that are meant and are there now. One that cannot be sent again stays."""
        return await self._all(lambda one: one.redrive(by, fresh=fresh), self.meant(**filters))

    async def discard_all(
        self, *, by: str | None = None, note: str = "", vouch: bool = False, **filters: Unpack[Filters]
    ) -> Handled:
        """:meth:`discard` those that are meant and are there now."""
        return await self._all(lambda one: one.discard(by, note, vouch=vouch), self.meant(**filters))

    async def _all(self, handle: Callable[[Opened], Awaitable[Any]], which: Letters) -> Handled:
        done, not_done = [], {}
        async with self.box.opened(which) as letters:
            async for one in letters:
                try:
                    await handle(one)
                except (DeadLetterError, MessageError) as error:
                    not_done[one.letter.id] = str(error)
                else:
                    done.append(one.letter.id)
        return Handled(done, not_done)

    def meant(self, **filters: Unpack[Filters]) -> Letters:
        """The filters as a store understands them.

        Raises:
            InvalidArguments: there is no such kind.
        """
        now, kind = self.clock.now(), filters.get("kind")
        try:
            meant = LetterKind(kind) if kind is not None else None
        except ValueError:
            raise InvalidArguments(f"there is no kind {kind!r}", hint=f"there is {', '.join(LetterKind)}") from None
        return Letters(
            kind=meant,
            queue=filters.get("queue"),
            activity=filters.get("activity"),
            reason=filters.get("reason"),
            error=filters.get("error"),
            workflow=filters.get("workflow"),
            code=filters.get("code"),
            since=_ago(now, filters.get("newer_than")),
            before=_ago(now, filters.get("older_than")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Changes:
    """What is to be different in a message. ``deadline`` is epoch seconds."""

    arguments: dict[str, Any]
    without: tuple[str, ...]
    prompt: str | None
    variables: dict[str, Any]
    deadline: float | Literal["none"] | None
    obo_token: str | None

    @property
    def names(self) -> list[str]:
        """What is different."""
        plain = {"prompt": self.prompt, "deadline": self.deadline, "obo_token": self.obo_token}
        return [
            *(f"arguments[{name!r}]" for name in (*self.arguments, *self.without)),
            *(f"variables[{name!r}]" for name in self.variables),
            *(name for name, value in plain.items() if value is not None),
        ]

    def applied_to(self, message: PaigeantMessage) -> PaigeantMessage:
        """The message with these changes; its id stays.

        Raises:
            InvalidArguments: there is nothing to change, or an argument to leave out that is not there.
        """
        slip, step = message.routing_slip, message.step
        if not self.names:
            raise InvalidArguments(
                "there is nothing to change", hint="give arguments, a prompt, variables or a deadline"
            )
        there = step.names_in("arguments")
        for name in self.without:
            if name not in there:
                has = ", ".join(map(repr, there)) or "none"
                hint = did_you_mean(name, there, f"it has {has}")
                raise InvalidArguments(f"step {step.name!r} has no argument {name!r}", hint=hint)
        step = step.changed("arguments", self.arguments, self.without)
        if self.prompt is not None:
            step = step.with_field("prompt", self.prompt)
        slip = slip.changed("variables", self.variables)
        slip = slip.model_copy(update={"itinerary": (step, *slip.itinerary[1:])})
        deadline = message.deadline if self.deadline is None else None if self.deadline == "none" else self.deadline
        changes = {"routing_slip": slip, "deadline": deadline, "obo_token": self.obo_token or message.obo_token}
        return message.model_copy(update=changes)


def _ago(now: float, age: float | timedelta | None) -> float | None:
    if age is None:
        return None
    return now - (age.total_seconds() if isinstance(age, timedelta) else age)


def _no_such(id: int | str) -> DeadLetterNotFound:  # noqa: A002
    return DeadLetterNotFound(f"there is no dead letter {str(id)!r}", hint="see: paigeant dlq list")

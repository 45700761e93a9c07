"""A simulated process: it acts on broker and store, and the faults of a plan strike it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from copy import copy
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from paigeant.activity import Activity, Kind
from paigeant.app import App
from paigeant.context import ActivityContext
from paigeant.events import Event, StepEnded
from paigeant.records.offer import Offer
from paigeant.testing.broker import ConnectionLost, SimulatedBroker
from paigeant.testing.faults import Faults, Point
from paigeant.testing.history import Announced, Entered, Started, Struck
from paigeant.testing.labels import run_label, step_label
from paigeant.testing.stores import last_look
from paigeant.worker import Worker

if TYPE_CHECKING:
    from paigeant.testing.world import World


class _Crashed(BaseException):
    """Ends a plain function whose process has just died."""


class SimulatedWorker(Worker):
    """A worker that describes an App's activities once for all runs, because this takes longer than most steps."""

    described: ClassVar[WeakKeyDictionary[App, tuple[Offer, ...]]] = WeakKeyDictionary()
    code: App

    def _offers(self, version: str) -> Iterator[Offer]:
        if self.code not in self.described:
            self.described[self.code] = tuple(super()._offers(version))
        return iter(self.described[self.code])


class Process:
    """A process that runs an App, and its faults; without ``faults`` nothing goes wrong."""

    def __init__(self, world: World, name: str, faults: Faults | None, broker: SimulatedBroker) -> None:
        self.name = name
        self.broker = broker
        self.retired: asyncio.Future[None] = world.loop.create_future()
        self.died: asyncio.Future[None] = world.loop.create_future()
        self._world = world
        self._faults = faults

    @property
    def reaches_store(self) -> bool:
        return self._faults is None or self._world.loop.time() >= self._world.store_back_at

    async def act(self, point: Point | None, effect: Callable[[], Any], activity: str | None = None) -> Any:
        """See :class:`~paigeant.testing.broker.Doer`."""
        await self._live()
        await asyncio.sleep(self._world.dice.uniform(0.0, self._world.scene.latency))
        await self._meet(point, activity, after=False)
        value = effect()
        if isawaitable(value):
            value = await value
        await self._meet(point, activity, after=True)
        return value

    async def _live(self) -> None:
        if self._world.is_over:
            raise asyncio.CancelledError
        if self.died.done():
            await self._world.loop.create_future()

    async def _meet(self, point: Point | None, activity: str | None, after: bool) -> None:
        try:
            seconds = self.strike(point, activity, after) if point is not None else 0.0
        except _Crashed:
            seconds = 0.0
        if seconds:
            await asyncio.sleep(seconds)
        await self._live()

    def strike(self, point: Point, activity: str | None, after: bool) -> float:
        """Apply the faults planned for this point; returns for how many seconds the process pauses."""
        world, seconds = self._world, 0.0
        for fault in self._faults.strike(point, activity, after) if self._faults is not None else ():
            world.history.add(Struck(worker=self.name, what=repr(fault)))
            match fault.kind:
                case "crash":
                    world.crash(self)
                    raise _Crashed
                case "lose":
                    raise ConnectionLost
                case "duplicate":
                    self.broker.duplicate_last()
                case "delay":
                    seconds += fault.seconds
                case "expire":
                    self.broker.leases_expire(self.name)
                case "outage":
                    world.store_back_at = world.loop.time() + fault.seconds
        return seconds

    def observe(self, event: Event) -> None:
        """Record each end of a step that a worker of this process announces."""
        if isinstance(event, StepEnded):
            self._world.history.add(Announced(message=event.message_id, run=run_label(event)))

    # --- steps ------------------------------------------------------------------------------------------------

    def observed(self, activity: Activity[..., Any]) -> Activity[..., Any]:
        """Wrap the activity: record each start of its body, and apply faults before and after it."""
        made = copy(activity)
        observe = {
            Kind.ASYNC: self._async,
            Kind.SYNC: self._sync,
            Kind.STREAM: self._stream,
            Kind.GENERATOR: self._generator,
        }[activity.kind]
        made.function = functools.wraps(activity.function)(observe(activity.function, activity.name))
        if activity.compensation is not None:
            made.compensation = self.observed(activity.compensation)
        return made

    def _entered(self) -> None:
        context = ActivityContext.current()
        self._world.history.add(
            Entered(
                message=context.message.id,
                worker=self.name,
                lease=context.state.delivery.token,
                workflow=context.correlation_id,
                step=step_label(context.step.id, context.message.routing_slip.heading),
            )
        )

    def _started(self) -> None:
        context = ActivityContext.current()
        self._world.history.add(
            Started(
                message=context.message.id,
                workflow=context.correlation_id,
                step=step_label(context.step.id, context.message.routing_slip.heading),
                worker=self.name,
                lease=context.state.delivery.token,
                look=last_look.get(),
            )
        )

    def _async(self, function: Callable[..., Any], name: str) -> Callable[..., Awaitable[Any]]:
        async def body(**arguments: Any) -> Any:
            def begun() -> Any:
                self._started()
                return function(**arguments)

            self._entered()
            return await self.act("invoke", begun, name)

        return body

    def _sync(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def body(**arguments: Any) -> Any:
            self._entered()
            self.strike("invoke", name, after=False)
            self._started()
            value = function(**arguments)
            self.strike("invoke", name, after=True)
            return value

        return body

    def _generator(self, function: Callable[..., Any], name: str) -> Callable[..., Generator[Any, None, Any]]:
        def body(**arguments: Any) -> Generator[Any, None, Any]:
            self._entered()
            self.strike("invoke", name, after=False)
            self._started()
            value = yield from function(**arguments)
            self.strike("invoke", name, after=True)
            return value

        return body

    def _stream(self, function: Callable[..., Any], name: str) -> Callable[..., AsyncIterator[Any]]:
        async def body(**arguments: Any) -> AsyncIterator[Any]:
            self._entered()
            await self.act("invoke", self._started, name)
            async for value in function(**arguments):
                yield value

        return body

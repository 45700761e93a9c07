"""A thread that owns a resource, and how the rest of the program asks it for things.

Broker connections and database connections belong to one thread each. Callers on any event loop, or on none, hand
work over and get a future back; results of a whole batch wake a loop once.
"""

from __future__ import annotations

import asyncio
import math
import select
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet

from paigeant.runtime import forks

T = TypeVar("T")

AnyFuture = asyncio.Future[Any] | Future[Any]
"""A future of the running event loop, or of none."""


def new_future() -> AnyFuture:
    """A future that fits the caller: asyncio's under a running loop, else a thread's."""
    try:
        return asyncio.get_running_loop().create_future()
    except RuntimeError:
        return Future()


Answer = tuple[AnyFuture, Any, BaseException | None]
"""A future with what it is to be given: a value, or an error."""


def answer(answers: Iterable[Answer]) -> None:
    """Complete futures from outside their loops; each loop is woken once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Answer]] = {}
    for item in answers:
        future = item[0]
        if isinstance(future, asyncio.Future):
            by_loop.setdefault(future.get_loop(), []).append(item)
        elif future.set_running_or_notify_cancel():
            _complete(item)
    for loop, items in by_loop.items():
        call_in(loop, _complete_all, items)


def call_in(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: Any) -> None:
    """Call the function in the loop's thread; nothing happens when the loop has been closed."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)


def _complete_all(items: list[Answer]) -> None:
    for item in items:
        if not item[0].done():
            _complete(item)


def _complete(item: Answer) -> None:
    future, value, error = item
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)


async def awaited(future: AnyFuture) -> Any:
    """The value of a future of either kind."""
    return await (future if isinstance(future, asyncio.Future) else asyncio.wrap_future(future))


class OncePerIteration:
    """Makes a call at the end of the event loop's turn, however often it is asked to in that turn.

    What all the tasks of a turn hand over then wakes another thread once. Asked outside of loops, it calls at once.
    """

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._asked: WeakSet[asyncio.AbstractEventLoop] = WeakSet()

    def ask(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._call()
            return
        if loop not in self._asked:
            self._asked.add(loop)
            loop.call_soon(self._end_iteration, loop)

    def _end_iteration(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asked.discard(loop)
        self._call()


def readable(sources: Sequence[int], timeout: float | None) -> Sequence[int]:
    """Those of the sockets on which something has come, or that broke; waits as long as the timeout allows.

    A process with many connections has sockets that ``select`` cannot name: it knows 1,024 files.
    """
    if not hasattr(select, "poll"):  # Windows, where ``select`` knows every socket
        return select.select(sources, [], [], timeout)[0]
    poll = select.poll()
    for source in sources:
        poll.register(source, select.POLLIN)
    return [source for source, _ in poll.poll(None if timeout is None else math.ceil(timeout * 1000))]


class Ready(NamedTuple):
    """What can be done with a socket without waiting."""

    can_read: bool
    can_write: bool


def ready(source: int, timeout: float, *, writing: bool) -> Ready:
    """Wait until something has come on the socket or, if ``writing``, until it takes something."""
    if not hasattr(select, "poll"):
        came, takes, _ = select.select([source], [source] if writing else [], [], timeout)
        return Ready(bool(came), bool(takes))
    poll = select.poll()
    poll.register(source, select.POLLIN | (select.POLLOUT if writing else 0))
    found = poll.poll(math.ceil(timeout * 1000))
    event = found[0][1] if found else 0
    broke = event & ~(select.POLLIN | select.POLLOUT)
    return Ready(bool(event & select.POLLIN or broke), bool(event & select.POLLOUT))


class Alarm:
    """Wakes a thread that sleeps on a server's socket, by a socket of its own."""

    def __init__(self) -> None:
        self._hears, self._speaks = socket.socketpair()
        self._hears.setblocking(False)
        self._speaks.setblocking(False)
        self._asleep = False

    def ring(self) -> None:
        """Called by other threads, after what they put where the sleeper looks."""
        if self._asleep:
            with suppress(BlockingIOError, OSError):  # a full pipe rings already
                self._speaks.send(b"\0")

    def wait(self, spoken: int | Sequence[int], timeout: float | None, *, unless: Callable[[], bool]) -> None:
        """Sleep until a server speaks, somebody rings or the time is over; not at all when ``unless`` is true."""
        sources = [spoken] if isinstance(spoken, int) else list(spoken)
        self._asleep = True
        try:
            if not unless() and self._hears.fileno() in readable([*sources, self._hears.fileno()], timeout):
                self._hears.recv(4096)
        finally:
            self._asleep = False

    def close(self) -> None:
        self._hears.close()
        self._speaks.close()


class IOThread:
    """Runs calls one after another in a thread of its own, started by the first call.

    ``idle`` is called between calls; it says how many seconds the thread may then sleep (None: until the next call).
    ``fileno`` is asked then: when there is such a socket and something comes on it, the thread wakes as well.

    A child process begins without the thread and without its calls. With ``rest`` the thread comes to rest before each
    fork: ``rest`` closes what must not be open then.
    """

    def __init__(
        self,
        name: str,
        idle: Callable[[], float | None] | None = None,
        fileno: Callable[[], int | None] | None = None,
        rest: Callable[[], None] | None = None,
    ) -> None:
        self._name = name
        self._rest = rest
        self._pause: forks.Pause | None = None
        self._idle = idle
        self._fileno = fileno
        self._begin()
        forks.enlist(self)
        if rest is not None:
            forks.enlist_resting(self)

    def _begin(self) -> None:
        self._alarm: Alarm | None = None
        self._calls: SimpleQueue[tuple[Callable[[], Any], AnyFuture] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_ending = False
        self._lock = threading.Lock()

    def submit(self, call: Callable[[], Any]) -> AnyFuture:
        """Run the call in the thread; the future fits the caller."""
        return self._put(call, new_future())

    def post(self, call: Callable[[], object]) -> None:
        """Run the call, which must not fail, in the thread; nobody waits for it."""
        self._put(call, Future())

    async def run(self, call: Callable[[], T]) -> T:
        """Run the call in the thread and wait for its value."""
        result: T = await awaited(self.submit(call))
        return result

    def wait_for(self, call: Callable[[], T], timeout: float) -> T:
        """Run the call in the thread and block until it has a value.

        Raises:
            TimeoutError: after ``timeout`` seconds.
        """
        future: Future[T] = Future()
        self._put(call, future)
        return future.result(timeout)

    def stop(self) -> None:
        """Finish the calls already made, and those made meanwhile, then end the thread."""
        with self._lock:
            thread, alarm = self._thread, self._alarm
            if thread is None:
                return
            self._is_ending = True
            self._wake_for(None)
        thread.join()
        if alarm is not None:
            alarm.close()

    # --- when the program forks ------------------------------------------------------------------------------

    def rest(self) -> Callable[[float], None]:
        with self._lock:
            if self._thread is None:
                return lambda _seconds: None
            self._pause = forks.Pause()
            self._wake_for((partial(self._hold, self._pause), Future()))
        return self._pause.wait

    def _hold(self, pause: forks.Pause) -> None:
        if self._rest is not None:
            self._rest()
        pause.hold()

    def go_on(self) -> None:
        if self._pause is not None:
            self._pause.end()
            self._pause = None

    def forget_after_fork(self) -> None:
        forks.keep(self._alarm, self._calls, self._thread)
        self._pause = None
        self._begin()

    def _put(self, call: Callable[[], Any], future: AnyFuture) -> AnyFuture:
        with self._lock:
            if self._thread is None:
                self._alarm = Alarm() if self._fileno else None
                self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
                self._thread.start()
            self._wake_for((call, future))
        return future

    def _wake_for(self, item: tuple[Callable[[], Any], AnyFuture] | None) -> None:
        self._calls.put(item)
        if self._alarm is not None:
            self._alarm.ring()

    def _next(self) -> tuple[Callable[[], Any], AnyFuture] | None:
        pause = self._idle() if self._idle else None
        spoken = self._fileno() if self._fileno else None
        if self._alarm is None or spoken is None:
            return self._calls.get(timeout=pause)
        self._alarm.wait(spoken, pause, unless=lambda: not self._calls.empty())
        return self._calls.get_nowait()

    def _loop(self) -> None:
        while not self._is_over():
            try:
                item = self._next()
            except Empty:
                continue
            if item is None:
                continue
            call, future = item
            try:
                answer([(future, call(), None)])
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits
                answer([(future, None, error)])

    def _is_over(self) -> bool:
        """Whether the thread ends: decided while nobody can hand it a call, which would be lost."""
        with self._lock:
            if not (self._is_ending and self._calls.empty()):
                return False
            self._thread, self._is_ending = None, False
            return True

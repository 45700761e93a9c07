"""The agents as tasks of Celery, on Redis."""

from __future__ import annotations

import sys
import threading

from benchmarks.agents.work import make_agent, prompt
from benchmarks.celery_app import make_celery
from benchmarks.place import Place, here

_POOLS = {"celery-threads": "threads", "celery-prefork": "prefork"}


_place = here()
app = make_celery("agents", _place.redis, _place)
_own = threading.local()


@app.task(name="ask")
def ask(requests: int) -> str:
    """A thread has an event loop of its own, and the model's client belongs to one loop: so each has its own agent."""
    if not hasattr(_own, "agent"):
        _own.agent = make_agent()
    answer: str = _own.agent.run_sync(prompt(requests)).output
    return answer


class System:
    """The adapter."""

    def __init__(self, place: Place, at_once: int) -> None:
        self._pool = _POOLS[place.system]
        self._at_once = at_once
        self.setup = f"agent.run_sync in a pool of {at_once} {'threads' if self._pool == 'threads' else 'processes'}"

    def worker(self) -> list[str]:
        return [
            sys.executable, "-m", "celery", "--app", __name__, "worker", "--loglevel=WARNING",
            "--without-gossip", "--without-mingle", "--without-heartbeat",
            f"--pool={self._pool}", f"--concurrency={self._at_once}", "--prefetch-multiplier=1",
        ]  # fmt: skip

    def dispatch(self, requests: int, count: int) -> None:
        for _ in range(count):
            ask.delay(requests)

    def cleanup(self) -> None:
        app.close()

"""How long a token takes from the step that streams it to whoever reads the workflow's events.

``python -m benchmarks.tokens`` runs one worker process and one reader process for each set-up and prints the delays;
the tokens carry the time at which they were made, so both processes have to be on one machine. ``pipe`` is a bare pipe
between two such processes: what the machine itself costs at the time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from paigeant import App, Worker

SETUPS: dict[str, tuple[str, str | None]] = {
    "pipe": ("pipe", None),
    "sqlite": ("sqlite", None),
    "redis": ("redis", "sqlite"),
    "postgresql": ("postgresql", None),
    "rabbitmq": ("rabbitmq", "postgresql"),
}
"""What carries the messages, and the store beside it."""

Stream = tuple[list[float], float, float]
"""The delay of each token, when the first was seen, and when the step had ended."""

WARM_UP = 5
"""Tokens of each stream that do not count: the first is the one that has a connection made."""


def make_app(broker: str, store: str | None, prefix: str) -> App:
    app = App("tokens", broker, store, queue_prefix=prefix)

    @app.activity
    async def speak(tokens: int, pause: float) -> AsyncIterator[float]:
        for _ in range(tokens):
            await asyncio.sleep(pause)
            yield time.time()

    return app


def serve(broker: str, store: str | None, prefix: str) -> None:
    """A worker, in a process of its own."""
    os.environ.setdefault("PAIGEANT_LOG_LEVEL", "error")
    asyncio.run(Worker(make_app(broker, store, prefix)).run())


async def read(app: App, streams: int, tokens: int, pause: float) -> dict[str, Any]:
    """Dispatch the streams and read them side by side; seconds."""
    speak = app.activities["speak"]
    await (await app.dispatch(speak.step(tokens=1, pause=0.0))).result(60)  # the worker is there
    began = time.time()
    found = await asyncio.gather(*(_stream(app, speak.step(tokens=tokens, pause=pause)) for _ in range(streams)))
    return _summary(found, streams, tokens, began)


def _summary(found: Sequence[Stream], streams: int, tokens: int, began: float) -> dict[str, Any]:
    delays = sorted(delay for delays, *_ in found for delay in delays[WARM_UP:])
    return {
        "streams": streams,
        "tokens": sum(len(delays) for delays, *_ in found),
        "of": streams * tokens,
        "first token": statistics.median(first - began for _, first, _ in found),
        "step end": statistics.median(end - began for *_, end in found),
        "p50": delays[len(delays) // 2],
        "p95": delays[int(len(delays) * 0.95)],
        "p99": delays[int(len(delays) * 0.99)],
    }


async def _stream(app: App, step: Any) -> Stream:
    workflow = await app.dispatch(step)
    delays, first, end = [], 0.0, 0.0
    async for event in workflow.events():
        now = time.time()
        if event.type == "step_yielded":
            first = first or now
            delays.append(now - event.data["value"])
        elif event.type == "step_completed":
            end = event.at
    return delays, first, end


def measure(broker: str, store: str | None, streams: int, tokens: int, pause: float) -> dict[str, Any]:
    prefix = f"tokens-{uuid.uuid4().hex[:8]}"
    worker = multiprocessing.get_context("spawn").Process(target=serve, args=(broker, store, prefix), daemon=True)
    worker.start()

    async def run() -> dict[str, Any]:
        app = make_app(broker, store, prefix)
        try:
            return await read(app, streams, tokens, pause)
        finally:
            await app.close()

    try:
        return asyncio.run(run())
    finally:
        worker.terminate()
        worker.join(20)


def speak_into(pipe: Connection, streams: int, tokens: int, pause: float) -> None:
    """As many tokens at the same pace, by themselves."""

    async def speak() -> None:
        for _ in range(tokens):
            await asyncio.sleep(pause)
            pipe.send(time.time())

    async def all_of_them() -> None:
        await asyncio.gather(*(speak() for _ in range(streams)))

    pipe.send("ready")
    asyncio.run(all_of_them())
    pipe.close()


def measure_pipe(streams: int, tokens: int, pause: float) -> dict[str, Any]:
    spawn = multiprocessing.get_context("spawn")
    hears, speaks = spawn.Pipe(duplex=False)
    speaker = spawn.Process(target=speak_into, args=(speaks, streams, tokens, pause), daemon=True)
    speaker.start()
    speaks.close()
    hears.recv()
    delays, first, began = [], 0.0, time.time()
    with suppress(EOFError):
        while True:
            made = hears.recv()
            first = first or time.time()
            delays.append(time.time() - made)
    speaker.join(20)
    return _summary([(delays, first, time.time())], streams, tokens, began)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tokens", description=__doc__.splitlines()[0])
    parser.add_argument("--setups", default=",".join(SETUPS), metavar="NAME,…", help=f"default: {','.join(SETUPS)}")
    parser.add_argument("--streams", default="1,20", metavar="N,…", help="how many at once (default 1,20)")
    parser.add_argument("--tokens", type=int, default=200, help="of each stream (default 200)")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two tokens (default 0.02)")
    parser.add_argument("--postgresql", metavar="URL", help="an EMPTY database; left out without it")
    parser.add_argument("--redis", default="redis://127.0.0.1:6379/0", metavar="URL")
    parser.add_argument("--rabbitmq", default="amqp://guest:guest@127.0.0.1:5672//", metavar="URL")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if not given.json:
        print("| broker (store) | streams | tokens seen | first token | step end | p50 | p95 | p99 |")
        print("|---|---|---|---|---|---|---|---|")
    for setup in given.setups.split(","):
        if setup not in SETUPS:
            parser.error(f"no set-up {setup!r}; there are: {', '.join(SETUPS)}")
        if "postgresql" not in SETUPS[setup] or given.postgresql:
            _report(setup, given)


def _report(setup: str, given: argparse.Namespace) -> None:
    kinds = SETUPS[setup]
    for streams in map(int, given.streams.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            urls = {
                "sqlite": f"sqlite:///{Path(folder) / 'tokens.db'}",
                "postgresql": given.postgresql,
                "redis": given.redis,
                "rabbitmq": given.rabbitmq,
            }
            broker, store = (urls.get(kind or "") for kind in kinds)
            if setup == "pipe":
                found = measure_pipe(streams, given.tokens, given.pause)
            else:
                found = measure(broker or "", store, streams, given.tokens, given.pause)
        if given.json:
            print(json.dumps({"setup": setup, **found}))
            continue
        times = " | ".join(f"{found[name] * 1000:.1f} ms" for name in ("first token", "step end", "p50", "p95", "p99"))
        beside = f" ({kinds[1]})" if kinds[1] else ""
        print(f"| {setup}{beside} | {streams} | {found['tokens']} of {found['of']} | {times} |")


if __name__ == "__main__":
    main()

"""Checks for common mistakes in an installation, run on the user's own machine and broker.

Every check returns one :class:`Finding`; none of them raises. The checks change nothing: the round trip uses its own
queue and leaves it empty.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import aclosing, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from paigeant.activity.builtin import CONTROL
from paigeant.dispatch.packing import DEAD_LETTER, queue_name
from paigeant.doctor import local
from paigeant.doctor.broker import delivery_limit, settings_of
from paigeant.doctor.finding import Finding, Verdict
from paigeant.errors import PaigeantError
from paigeant.records.workflow import WorkerRecord, unserved
from paigeant.runtime.lookalikes import look_alikes, told_apart
from paigeant.runtime.trouble import advice
from paigeant.runtime.urls import masked
from paigeant.store import Store
from paigeant.stores import store_url
from paigeant.transport import BaseTransport, Delivery, Durability, Outgoing
from paigeant.transports import schemes
from paigeant.workflow.unserved import unserved_running

if TYPE_CHECKING:
    from paigeant.app import App

PATIENCE = 10.0
"""Maximum seconds for a round trip."""

EXTRAS = dict(schemes.EXTRAS.values()) | {"dev": "watchfiles", "objects": "fsspec"}
"""paigeant's extras, each with a module that it installs."""

_PACKAGES = ("paigeant", "kombu", "SQLAlchemy", "pydantic", "pydantic-ai-slim")

_REFUSED_COMMAND = ("permission", "can't run this command", "ACL failure")
_UNKNOWN_HOST = ("not known", "resolve", "resolution", "nodename", "getaddrinfo")


async def examine(app: App) -> AsyncIterator[Finding]:
    """Check the installation, the broker and the store; yields each finding as soon as it is available."""
    yield _versions()
    yield _extras()
    yield local.modules(Path.cwd())
    try:
        transport = app.transport
        await transport.connect()
    except PaigeantError as error:
        yield Finding("broker", Verdict.FAIL, str(error), advice_for(error))
        if any(word in str(error) for word in _REFUSED_COMMAND):
            for finding in await settings_of(transport, ()):
                yield finding
    else:
        yield _promise(transport)
        yield await _round_trip(transport, app.prefix)
        for finding in await settings_of(transport, app.activities.values()):
            yield finding
        for finding in await delivery_limit(transport, app.prefix, app.settings.max_deliveries):
            yield finding
        yield names(transport.features.longest_name, queues_of(app))
    for finding in alike(app.activities):
        yield finding
    async for finding in _store(app):
        yield finding
    urls = (app.settings.broker_url, store_url(app.settings.broker_url, app.settings.store_url))
    yield local.files(urls, app.settings.claim_check)


def advice_for(error: PaigeantError) -> str | None:
    """Return advice for an unreachable broker, derived from the error text."""
    said = str(error)
    if any(word in said for word in _UNKNOWN_HOST):
        return "there is no machine with this name: check the host in the URL"
    return advice(error) or error.hint


def _versions() -> Finding:
    found = [f"Python {platform.python_version()}", *(f"{name} {_version(name)}" for name in _PACKAGES)]
    return Finding("versions", Verdict.OK, ", ".join(found))


def _extras() -> Finding:
    there = [name for name, module in EXTRAS.items() if schemes.is_installed(module)]
    missing = [name for name in EXTRAS if name not in there]
    found = f"installed: {', '.join(there) or 'none'}; not installed: {', '.join(missing) or 'none'}"
    return Finding("extras", Verdict.OK, found)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"


def _promise(transport: BaseTransport) -> Finding:
    durability, url = transport.features.durability, masked(transport.url)
    if durability is Durability.VOLATILE:
        return Finding("promise", Verdict.WARN, f"{url} keeps messages in one process", "for tests only")
    if durability is Durability.BEST_EFFORT:
        advice = "use a SQL database, RabbitMQ or Redis (redis://) if the messages matter"
        return Finding("promise", Verdict.WARN, f"{url} may lose messages when a worker dies", advice)
    return Finding("promise", Verdict.OK, f"{url}: {durability.value.replace('_', ' ')}")


async def _round_trip(transport: BaseTransport, prefix: str) -> Finding:
    queue = f"{prefix}.doctor"  # a fixed name, so that repeated checks create no new queues
    started = time.perf_counter()
    try:
        async with asyncio.timeout(PATIENCE):
            await transport.declare(queue)
            await transport.send([Outgoing(queue=queue, body=b"{}", id=uuid4().hex)])
            await transport.settle(await first_delivery(transport, queue))
    except TimeoutError:
        return Finding("round trip", Verdict.FAIL, f"a message did not come back within {PATIENCE:g} s")
    except PaigeantError as error:
        return Finding("round trip", Verdict.FAIL, str(error), error.hint)
    took = (time.perf_counter() - started) * 1000
    return Finding("round trip", Verdict.OK, f"published, received and settled in {took:.1f} ms")


def queues_of(app: App) -> list[str]:
    """Return the names of all queues of the App, including those for built-in steps and dead letters."""
    own = [queue_name(app.prefix, name) for name in (CONTROL, DEAD_LETTER, "doctor")]
    return [*own, *(app.queue_of(activity) for activity in app.activities.values())]


def names(limit: int | None, queues: Collection[str]) -> Finding:
    """Check whether the broker supports queue names of this length."""
    length, longest = max((len(queue.encode()), queue) for queue in queues)
    found = f"the longest name of a queue has {length} bytes"
    if limit is not None and length > limit:
        advice = "give the activity queue=..., or the App a short queue_prefix"
        return Finding("names", Verdict.FAIL, f"{found}, the broker allows {limit}: {longest[:60]}…", advice)
    return Finding("names", Verdict.OK, found)


def alike(activities: Iterable[str], known: Iterable[str] = ()) -> list[Finding]:
    """Warn of activities whose names look the same, apart from groups that are all ``known``."""
    before = look_alikes(known)
    return [
        Finding(
            "names", Verdict.WARN, f"these activities look alike: {told_apart(group)}", "rename all but one of them"
        )
        for group in look_alikes(activities)
        if group not in before
    ]


async def first_delivery(transport: BaseTransport, queue: str) -> Delivery:
    """Wait for one delivery from the queue."""
    async with aclosing(transport.consume([queue], 1)) as batches:
        async for batch in batches:
            return batch[0]
    raise AssertionError("consume() ends only when it is closed")


async def _store(app: App) -> AsyncIterator[Finding]:
    try:
        store = app.store
        if store is None:
            advice = 'App(..., store="sqlite:///paigeant.db") or PAIGEANT_STORE_URL'
            yield Finding("store", Verdict.WARN, "none: no results, status or history", advice)
            return
        await store.connect()
        alive = [worker for worker in await store.workers() if worker.alive]
        is_joined = app.dispatcher.joined
    except PaigeantError as error:
        yield Finding("store", Verdict.FAIL, str(error), advice_for(error))
        return
    yield _found_store(store, is_joined, len(alive))
    served = {name for worker in alive for name in worker.activities}
    for finding in alike({*app.activities, *served}, known=app.activities):
        yield finding
    for finding in code_of(alive):
        yield finding
    for text, advice in await _unserved(app, store, alive):
        yield Finding("workers", Verdict.WARN, text, advice)


async def _unserved(app: App, store: Store, alive: Collection[WorkerRecord]) -> list[tuple[str, str]]:
    """Return queues with messages and steps of running workflows that no live worker serves, each with advice."""
    depths: Mapping[str, int] = {}
    found = list[tuple[str, str]]()
    with suppress(PaigeantError):  # an unreachable broker was reported before
        depths = await app.transport.queues()
    for text in unserved(depths, alive):
        found.append((text, "start a worker that has this activity, or purge the queue"))
    with suppress(PaigeantError):
        for text in await unserved_running(store, alive, depths):
            found.append((text, "start a worker that has this activity, or cancel the workflow"))
    return found


def _found_store(store: Store, is_joined: bool, alive: int) -> Finding:
    where = "in the broker's database: one transaction" if is_joined else "separate from the broker"
    return Finding("store", Verdict.OK, f"{masked(store.url)}, {where}; {alive} workers alive")


def code_of(alive: Iterable[WorkerRecord]) -> list[Finding]:
    """Check whether the workers of each App run the same code; workers that do not report it are skipped."""
    by_app: dict[str, Counter[str]] = defaultdict(Counter)
    for worker in alive:
        if worker.code:
            by_app[worker.app][worker.code] += 1
    return [_same_code(app, found) for app, found in sorted(by_app.items())]


def _same_code(app: str, found: Counter[str]) -> Finding:
    if len(found) == 1:
        [(code, number)] = found.items()
        return Finding("code", Verdict.OK, f"the workers of {app!r} run the same code: {code} ({number})")
    versions = ", ".join(f"{code} ({number})" for code, number in found.most_common())
    advice = "if no rollout is in progress, restart the workers that run old code: paigeant workers --json"
    return Finding("code", Verdict.WARN, f"the workers of {app!r} run {len(found)} versions: {versions}", advice)

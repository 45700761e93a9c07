"""Every kind of step while brokers, stores, connections and clocks are in trouble: nothing is lost or blamed."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
from brokers.proxy import Proxy
from brokers.servers import PostgresServer, RabbitServer, Server
from crash import mixed
from crash.conductor import Conductor
from crash.fleet import Fleet
from crash.ledger import LEDGER
from helpers import lengthy, until_async

WORKERS = 3
LEASE = 6.0
"""Seconds. Longer than an outage here."""

GRACE = 10.0
"""Seconds after which a message that is overdue counts as lost by the broker."""

CONSUMERS_BACK = 10.0
"""Seconds after the start of a server within which steps start again."""

Trouble = Callable[[Conductor], Awaitable[None]]


@pytest.fixture
def make_mixed(make_fleet: Callable[..., Fleet], prefix: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Fleet]:
    """Makes workers of the mixed service, with the default of deliveries."""

    def make(broker: str, store: str | None = None, lease: float = LEASE) -> Fleet:
        fleet = make_fleet(broker, store, app_name=prefix, lease=lease, service=mixed)
        monkeypatch.setenv(LEDGER, str(fleet.ledger))
        fleet.settings = {"CRASH_CONCURRENCY": "8", "PAIGEANT_RECOVERY_GRACE": str(GRACE)}
        return fleet

    return make


def start_workers(fleet: Fleet, count: int = WORKERS) -> None:
    for process in [fleet.start() for _ in range(count)]:
        process.ready()


def assert_the_same_workers(fleet: Fleet) -> None:
    assert [process.log for process in fleet.processes if not process.is_alive] == []


# --- servers that are killed ---------------------------------------------------------------------------------------


class Restarts:
    """Kills servers in turn and starts them again; ``back`` are the seconds until a step started after that."""

    def __init__(self, *rounds: Sequence[Server], down: float = 0.5) -> None:
        self._rounds = itertools.cycle(rounds)
        self._down = down
        self.back: list[float] = []

    async def __call__(self, conductor: Conductor) -> None:
        servers = next(self._rounds)
        await asyncio.to_thread(self._restart, servers)
        ready = time.monotonic()

        async def goes_on() -> bool:
            conductor.look()
            return conductor.reader.lines[-1].at > ready

        await until_async(goes_on, 60)
        self.back.append(conductor.reader.lines[-1].at - ready)

    def _restart(self, servers: Sequence[Server]) -> None:
        for server in servers:
            server.kill()
        time.sleep(self._down)
        for server in servers:
            server.start()

    @property
    def figures(self) -> str:
        return f"steps start again after {', '.join(f'{seconds:.1f}' for seconds in self.back)} s"


@pytest.fixture
def servers(request: pytest.FixtureRequest, broker: str) -> tuple[Server, PostgresServer]:
    """The broker's process and the store's; the same where PostgreSQL is both."""
    store: PostgresServer = request.getfixturevalue("own_postgres")
    return (store if broker == "postgres" else request.getfixturevalue(f"own_{broker}")), store


@pytest.mark.slow
@pytest.mark.endurance
@pytest.mark.parametrize("broker", ["rabbitmq", "redis", "postgres"])
def test_broker_store_and_both_are_restarted(
    make_mixed: Callable[..., Fleet], servers: tuple[Server, PostgresServer], broker: str
) -> None:
    """Each with ``kill -9``: everything completes, by the same worker processes."""
    first, store = servers
    fleet = make_mixed(first.url, store.url)
    start_workers(fleet)
    restarts = Restarts([first], [store], [*{first, store}])
    conductor = Conductor(fleet, mixed.shapes(60), troubles=3, trouble=restarts, strict=False)
    conductor.conduct(f"{broker} and postgres, restarts")
    print(restarts.figures)
    assert_the_same_workers(fleet)
    assert len(restarts.back) == 3
    assert max(restarts.back) < CONSUMERS_BACK


@pytest.mark.endurance
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("broker", ["rabbitmq", "redis", "postgres"])
def test_five_restarts_of_each_server_in_the_middle_of_500_workflows(
    make_mixed: Callable[..., Fleet], servers: tuple[Server, PostgresServer], broker: str
) -> None:
    """All complete, no worker is restarted, no step is set aside, and steps start again within ten seconds."""
    first, store = servers
    fleet = make_mixed(first.url, store.url)
    start_workers(fleet)
    restarts = Restarts(*([first], [store]) if first is not store else ([store],))
    troubles = 5 if first is store else 10
    conductor = Conductor(fleet, mixed.shapes(500), troubles=troubles, trouble=restarts, strict=False)
    conductor.conduct(f"{broker} and postgres, five restarts of each")
    print(restarts.figures)
    assert_the_same_workers(fleet)
    assert len(restarts.back) == troubles
    assert max(restarts.back) < CONSUMERS_BACK


# --- an alarm ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_memory_alarm_costs_nothing(
    make_mixed: Callable[..., Fleet], own_rabbitmq: RabbitServer, postgres_url: str
) -> None:
    """Two alarms, longer than a confirm may take: no delivery comes again, and no step is set aside."""
    fleet = make_mixed(own_rabbitmq.url, postgres_url)
    start_workers(fleet)

    async def alarm(conductor: Conductor) -> None:
        await asyncio.to_thread(own_rabbitmq.alarm, True)
        await asyncio.sleep(8)
        await asyncio.to_thread(own_rabbitmq.alarm, False)

    Conductor(fleet, mixed.shapes(40), troubles=2, trouble=alarm).conduct("rabbitmq and postgres, two alarms")
    assert_the_same_workers(fleet)


# --- connections ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.endurance
@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_connections_are_cut_stalled_and_slow(
    make_mixed: Callable[..., Fleet],
    make_proxy: Callable[[str], Proxy],
    broker_url: str,
    postgres_url: str,
    broker: str,
) -> None:
    """Those to the broker and those to the store: everything completes, by the same worker processes."""
    near, far = make_proxy(broker_url), make_proxy(postgres_url)
    fleet = make_mixed(near.url, far.url)
    start_workers(fleet)
    troubles = itertools.cycle(
        [near.cut, far.cut, near.stall, far.stall, near.half_open, far.half_open, lambda: slow(near), lambda: slow(far)]
    )

    async def trouble(conductor: Conductor) -> None:
        await asyncio.to_thread(next(troubles))

    # The test itself goes round the proxies.
    fleet.app.use(broker_url, postgres_url)
    conductor = Conductor(fleet, mixed.shapes(80), troubles=8, trouble=trouble, store=postgres_url, strict=False)
    conductor.conduct(f"{broker} and postgres, connections")
    assert_the_same_workers(fleet)


def slow(proxy: Proxy) -> None:
    """20 kB in a second, for three seconds."""
    proxy.slow(20_000)
    time.sleep(3)
    proxy.slow(None)


# --- clocks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def any_urls(request: pytest.FixtureRequest, broker: str, tmp_path: Path) -> tuple[str, str | None]:
    """Broker and store; databases are both."""
    match broker:
        case "sqlite":
            return f"sqlite:///{tmp_path}/paigeant.db", None
        case "postgres":
            return str(request.getfixturevalue("postgres_url")), None
        case _:
            store = str(request.getfixturevalue("postgres_url"))
            return str(request.getfixturevalue(f"{broker}_url")), store


EVERY_BROKER = ["sqlite", lengthy("postgres"), lengthy("redis"), "rabbitmq"]


@pytest.mark.slow
@pytest.mark.parametrize("broker", EVERY_BROKER)
def test_clocks_of_workers_jump(
    make_mixed: Callable[..., Fleet], any_urls: tuple[str, str | None], broker: str
) -> None:
    """One goes a minute ahead, one a minute behind: nothing starts twice, fires early or waits for that minute."""
    fleet = make_mixed(*any_urls, lease=2.0)
    for settings in ({}, {"CLOCK": "60"}, {"CLOCK": "-60"}):
        fleet.start(**settings).ready()
    conductor = Conductor(fleet, mixed.shapes(60), pace=0.1)
    conductor.conduct(f"{broker}, clocks")
    assert conductor.seconds < 60
    assert_the_same_workers(fleet)


# --- deploys -------------------------------------------------------------------------------------------------------


class Deploy:
    """Stops one worker in an orderly way and starts the next release in its place, one after the other."""

    def __init__(self, fleet: Fleet, **settings: str) -> None:
        self._fleet = fleet
        self._settings = settings
        self._places = itertools.cycle(range(WORKERS))
        self._serving = [fleet.start(**settings).ready() for _ in range(WORKERS)]

    async def __call__(self, conductor: Conductor) -> None:
        place = next(self._places)
        await asyncio.to_thread(self._replace, place)

    def _replace(self, place: int) -> None:
        self._serving[place].stop()
        self._serving[place] = self._fleet.start(VERSION="2", **self._settings).ready()


def with_novel_ones(count: int) -> Iterator[mixed.Shape]:
    """Every tenth workflow of the second half needs the new release."""
    for number, shape in enumerate(mixed.shapes(count)):
        yield mixed.novel() if number > count / 2 and number % 10 == 0 else shape


@pytest.mark.slow
@pytest.mark.parametrize("broker", EVERY_BROKER)
def test_a_release_is_rolled_out(
    make_mixed: Callable[..., Fleet], any_urls: tuple[str, str | None], broker: str
) -> None:
    """Each worker is stopped in an orderly way: nothing starts twice, and what only the new release can run waits."""
    fleet = make_mixed(*any_urls)
    deploy = Deploy(fleet)
    shapes = [*with_novel_ones(60)]
    Conductor(fleet, shapes, troubles=WORKERS, trouble=deploy, pace=0.05).conduct(f"{broker}, a release is rolled out")


@pytest.mark.slow
@pytest.mark.parametrize("broker", EVERY_BROKER)
def test_orderly_stops_that_are_cut_short_blame_nobody(
    make_mixed: Callable[..., Fleet], any_urls: tuple[str, str | None], broker: str
) -> None:
    """More of them than a message may have deliveries: long steps go back each time, and complete in the end."""
    fleet = make_mixed(*any_urls)
    deploy = Deploy(fleet, PAIGEANT_SHUTDOWN_TIMEOUT="0.1")
    conductor = Conductor(fleet, mixed.shapes(80), troubles=12, trouble=deploy, strict=False)
    conductor.conduct(f"{broker}, twelve stops cut short")

"""Commands that act on a workflow use its broker, or refuse and change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import CliRunner, Result
from helpers import served, until_async

from paigeant import ActivityContext, App
from paigeant.cli import cli

T = TypeVar("T")
Paigeant = Callable[..., Result]


@pytest.fixture
def paigeant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paigeant:
    """Runs a command where no broker is named; it must exit with ``code``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PAIGEANT_BROKER_URL", raising=False)

    def run(*arguments: str, code: int = 0) -> Result:
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == code, done.output
        return done

    return run


class Shop:
    """An App whose workflow ``w`` waits for the signal ``go``."""

    def __init__(self, broker: str, store: str | None) -> None:
        self.urls = broker, store

    def ask(self, question: Callable[[App], Awaitable[T]]) -> T:
        async def asked() -> T:
            app = App("shop", *self.urls)

            @app.activity
            def wait(ctx: ActivityContext) -> Any:
                return ctx.await_signal("go")

            try:
                return await question(app)
            finally:
                await app.close()

        return asyncio.run(asked())

    def park(self) -> None:
        async def parked(app: App) -> None:
            async with served(app):
                await app.dispatch("wait", id="w")
                await until_async(lambda: app.store.held("w", "signal:"))

        self.ask(parked)

    def result(self) -> Any:
        async def ended(app: App) -> Any:
            async with served(app):
                return await app.workflow("w").result(30)

        return self.ask(ended)

    def held(self) -> int:
        async def count(app: App) -> int:
            return len(await app.store.held("w", "signal:"))

        return self.ask(count)


def test_a_database_that_carries_messages_is_the_broker_of_its_store(paigeant, tmp_path):
    """It is enough to name it as the store."""
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    shop = Shop(url, None)
    shop.park()
    paigeant("signal", "w", "go", '"yes"', "--store", url)
    assert shop.result() == "yes"
    assert not (tmp_path / "paigeant.db").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("signal", "w", "go"),
        ("cancel", "w"),
        ("pause", "w"),
        ("retry", "w"),
        ("approve", "w", "--question", "q"),
        ("fork", "w", "--from", "wait"),
        ("dlq", "redrive", "--all", "--yes"),
        ("recover",),
    ],
    ids=lambda words: words[0],
)
def test_without_a_broker_nothing_is_changed(paigeant, tmp_path, words):
    """The refusal names the broker of the workers."""
    broker, store = (f"sqlite:///{tmp_path / name}.db" for name in ("broker", "store"))
    shop = Shop(broker, store)
    shop.park()
    refused = paigeant(*words, "--store", store, code=2)
    assert "which broker?" in refused.output
    assert broker in refused.output
    assert shop.held() == 1
    assert not (tmp_path / "paigeant.db").exists()


def test_the_right_broker_and_store_are_enough(paigeant, tmp_path):
    """As the workers name them."""
    broker, store = (f"sqlite:///{tmp_path / name}.db" for name in ("broker", "store"))
    shop = Shop(broker, store)
    shop.park()
    paigeant("signal", "w", "go", "1", "--store", store, "-b", broker)
    assert shop.result() == 1


def test_another_broker_than_that_of_the_workers_is_refused(paigeant, tmp_path):
    """A broker that differs in its kind or in what it is called there."""
    broker, store = (f"sqlite:///{tmp_path / name}.db" for name in ("broker", "store"))
    shop = Shop(broker, store)
    shop.park()
    wrong = f"sqlite:///{tmp_path / 'wrong.db'}"
    refused = paigeant("signal", "w", "go", "1", "--store", store, "-b", wrong, code=2)
    assert "is not the broker of these workflows" in refused.output
    assert shop.held() == 1


NOBODY_NAMED_ONE = [
    ("cancel", "w"),
    ("signal", "w", "go"),
    ("approve", "w", "--question", "q"),
    ("retry", "w"),
    ("fork", "w", "--from", "wait"),
    ("recover",),
    ("dlq", "redrive", "--all", "--yes"),
    ("dlq", "list"),
    ("purge", "q", "--yes"),
    ("purge", "--all", "--yes"),
    ("queues",),
    ("workflows",),
    ("workers",),
    ("status",),
    ("schedules",),
    ("schedule", "delete", "s"),
    ("prune", "--older-than", "1d", "--yes"),
    ("migrate",),
    ("migrate", "--dry-run"),
    ("doctor",),
]


@pytest.mark.parametrize("words", NOBODY_NAMED_ONE, ids=" ".join)
@pytest.mark.parametrize("store", [False, True], ids=["nothing named", "a store named"])
def test_no_command_creates_a_database_that_nobody_named(tmp_path, monkeypatch, words, store):
    """Whatever it says, the folder stays as it was."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("PAIGEANT_BROKER_URL", raising=False)
    if store:
        Shop(f"sqlite:///{tmp_path / 'broker.db'}", f"sqlite:///{tmp_path / 'store.db'}").park()
        words = (*words, "--store", f"sqlite:///{tmp_path / 'store.db'}")
    done = CliRunner().invoke(cli, words)
    assert done.exit_code in (0, 2, 3), done.output
    assert [*(tmp_path / "here").iterdir()] == []


def test_migrate_says_what_to_type_where_nobody_named_a_database(paigeant, tmp_path):
    """What it says to type creates the tables; from then on it is the database of this folder."""
    refused = paigeant("migrate", code=2)
    assert "which database?" in refused.output
    paigeant("migrate", "-b", "sqlite:///paigeant.db")
    assert "paigeant.db" in paigeant("migrate").output


def test_migrate_of_a_store_leaves_other_databases_alone(paigeant, tmp_path):
    """The tables of messages are migrated there if it carries messages."""
    store, both = (f"sqlite:///{tmp_path / name}.db" for name in ("store", "both"))
    Shop(f"sqlite:///{tmp_path / 'broker'}.db", store).park()
    Shop(both, None).park()
    assert "transports" not in paigeant("migrate", "--store", store).output
    assert "transports" in paigeant("migrate", "--store", both).output
    assert not (tmp_path / "paigeant.db").exists()


def test_messages_are_purged_from_the_broker_of_the_store_that_is_named(paigeant, tmp_path):
    """Or the command asks which broker."""
    broker, store, both = (f"sqlite:///{tmp_path / name}.db" for name in ("broker", "store", "both"))
    Shop(broker, store).park()
    Shop(both, None).park()
    assert "which broker?" in paigeant("purge", "--all", "--yes", "--store", store, code=2).output
    assert "deleted" in paigeant("purge", "--all", "--yes", "--store", both).output


def test_an_app_names_its_default(paigeant, tmp_path):
    """The database of the folder is created when the App is used."""
    (tmp_path / "shop_app.py").write_text("from paigeant import App\napp = App('shop')\n")
    paigeant("dispatch", "-A", "shop_app.py", "wait", "--id", "w")
    assert (tmp_path / "paigeant.db").stat().st_mode & 0o777 == 0o600


def test_without_a_store_dead_letters_go_to_a_broker_that_somebody_named(paigeant, monkeypatch, tmp_path):
    """The prefix of their queue is not enough."""
    monkeypatch.setenv("PAIGEANT_STORE_URL", "none")
    monkeypatch.setenv("PAIGEANT_QUEUE_PREFIX", "shop")
    refused = paigeant("dlq", "redrive", "--all", "--yes", code=2)
    assert "which broker? You named none" in refused.output
    assert [*tmp_path.iterdir()] == []

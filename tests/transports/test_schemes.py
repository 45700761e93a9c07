"""Broker URLs: which there are, what they promise, what they need, and what is said of those that cannot be used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from kombu.transport import TRANSPORT_ALIASES

from paigeant import App, Worker
from paigeant.errors import ConfigurationError
from paigeant.transport import Durability
from paigeant.transports import BestEffortWarning, get_transport, new_transport, schemes

# --- what is known ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("reddis://localhost", "redis://"),
        ("amqb://localhost", "amqp://"),
        ("sqllite:///x.db", "sqlite://"),
        ("postgressql://db/x", "postgresql://"),
        ("kombu+reddis://localhost", "redis://"),
        ("filesytem:///tmp/x", "filesystem://"),
    ],
)
@pytest.mark.parametrize("place", [lambda url: App("typo", broker=url), get_transport])
def test_a_typo_gets_the_nearest_name(typed: str, meant: str, place: Callable[[str], object]) -> None:
    """Wherever a URL is taken, before anything connects."""
    with pytest.raises(ConfigurationError, match="no transport for") as caught:
        place(typed)
    assert caught.value.hint == f"did you mean {meant}?"


def test_a_typo_in_the_environment_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody named the broker in the program."""
    monkeypatch.setenv("PAIGEANT_BROKER_URL", "reddis://:secret@localhost")
    with pytest.raises(ConfigurationError, match=r"reddis://:\*\*\*@localhost"):
        App("typo")


def test_every_scheme_of_kombu_is_known_with_what_it_needs() -> None:
    """A release of kombu with a new transport fails here until somebody has looked at what it promises."""
    bare = {"amqp", "amqps", "pyamqp", "memory", "filesystem", "sqla", "sqlalchemy"}
    ours = {"paigeant", "redis-streams", "amqp-tls"}
    known = {*bare, *ours, *schemes.EXTRAS, *schemes._PACKAGES, *schemes._GONE}
    assert set(TRANSPORT_ALIASES) - known == set()
    usable = set(TRANSPORT_ALIASES) - {"paigeant", "redis-streams"}  # these two are for kombu programs
    assert {schemes.scheme_of(f"{name}://x") for name in usable} == usable
    assert schemes.scheme_of("sqla+sqlite:///x.db") == "sqla+sqlite"


@pytest.mark.parametrize("scheme", sorted({*schemes.EXTRAS} - {"postgresql", "postgres"}))
def test_a_missing_client_is_named_with_its_extra(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pip is to be told."""
    monkeypatch.setattr(schemes, "find_spec", lambda module: None)
    with pytest.raises(ConfigurationError, match=f"{scheme}:// needs the .* extra") as caught:
        new_transport(f"{scheme}://host", durability="best_effort")
    assert caught.value.hint == f'pip install "paigeant[{schemes.EXTRAS[scheme][0]}]"'


def test_the_extras_that_are_named_exist() -> None:
    """In pyproject.toml."""
    import tomllib

    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    assert {extra for extra, _ in schemes.EXTRAS.values()} <= set(extras)


def test_what_nobody_can_use_any_more_says_so() -> None:
    """Rather than that something is not installed."""
    with pytest.raises(ConfigurationError, match="use amqp://"):
        new_transport("librabbitmq://localhost", durability="best_effort")


# --- what it promises ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["kombu+redis://localhost", "sqla+sqlite:///x.db", "filesystem:///tmp/x", "sqs://"])
def test_a_broker_that_may_lose_messages_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until somebody accepts it; the error says how."""
    monkeypatch.delenv("PAIGEANT_DURABILITY", raising=False)
    for get in (get_transport, new_transport, lambda url: App("lossy", broker=url).transport):
        with pytest.raises(ConfigurationError, match="is best effort") as caught:
            get(url)
        assert 'durability="best_effort"' in str(caught.value.hint)
        assert "PAIGEANT_DURABILITY=best_effort" in str(caught.value.hint)


@pytest.mark.parametrize("place", ["argument", "environment", "pyproject"])
def test_a_broker_that_may_lose_messages_is_accepted_by_name(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a warning all the same."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PAIGEANT_DURABILITY", raising=False)
    if place == "environment":
        monkeypatch.setenv("PAIGEANT_DURABILITY", "best_effort")
    if place == "pyproject":
        (tmp_path / "pyproject.toml").write_text('[tool.paigeant]\ndurability = "best_effort"\n')
    app = App("lossy", f"filesystem://{tmp_path}/q", durability="best_effort" if place == "argument" else None)
    with pytest.warns(BestEffortWarning, match="may be lost"):
        assert app.transport.features.durability is Durability.BEST_EFFORT
    app.close_sync()


def test_memory_needs_no_permission() -> None:
    """Nobody expects to keep what is in one process."""
    assert get_transport("memory").features.durability is Durability.VOLATILE
    assert get_transport("inmemory") is get_transport("memory")
    assert get_transport("redis").url == "redis://localhost:6379/0"
    assert get_transport("rabbitmq").url == "amqp://localhost"


def test_kombus_own_transport_over_sqlite_keeps_messages_from_others(tmp_path: Path) -> None:
    """Its file is created for the owner."""
    with pytest.warns(BestEffortWarning):
        transport = get_transport(f"sqla+sqlite:///{tmp_path}/queue.db", durability="best_effort")
    app = App("files", transport.url, "none", durability="best_effort").on(transport)
    asyncio.run(app.connect())
    assert (tmp_path / "queue.db").stat().st_mode & 0o777 == 0o600
    app.close_sync()


def test_a_folder_with_the_name_of_a_client_is_not_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python takes it for a package without modules."""
    (tmp_path / "folder_of_mine" / "conf").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    assert not schemes.is_installed("folder_of_mine")
    assert not schemes.is_installed("folder_of_mine.conf")
    assert schemes.is_installed("kombu.transport")


# --- what it says ----------------------------------------------------------------------------------------------------


def test_a_workflow_runs_on_files_and_its_worker_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the folders that the URL names, which are made."""
    url = f"filesystem://{tmp_path}/a%20folder?processed_folder={tmp_path}/done&store_processed=1"
    app = App("files", url, f"sqlite:///{tmp_path}/store.db", durability="best_effort")

    @app.activity
    def double(number: int) -> int:
        return 2 * number

    async def scenario() -> int:
        workflow = await app.dispatch(double.step(number=21))
        await Worker(app, burst=True).run()
        return await workflow.result(timeout=20)

    with pytest.warns(BestEffortWarning):
        assert asyncio.run(asyncio.wait_for(scenario(), 60)) == 42
    app.close_sync()
    assert len(list((tmp_path / "done").iterdir())) == 1
    assert [oct((tmp_path / name).stat().st_mode & 0o777) for name in ("a folder", "done")] == ["0o700", "0o700"]
    assert "this broker is best effort" in caplog.text + capsys.readouterr().out  # whoever set up logging first


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("filesystem://", "names no folder"),
        ("filesystem:///proc/no/such", "cannot be made"),
        ("amqp://localhost?queue_type=qorum", "queue_type='qorum'"),
        ("amqp://localhost?consumer_timeout=long", "consumer_timeout='long'"),
        ("amqp://localhost?colour=red", "colour"),
    ],
)
def test_an_option_without_a_meaning_is_refused(url: str, problem: str) -> None:
    """Before anything connects."""
    with pytest.raises(ConfigurationError, match=problem):
        new_transport(url, durability="best_effort")


@pytest.mark.parametrize(
    ("query", "counts", "hold"),
    [
        ("", True, 1800.0),
        ("?queue_type=classic", False, 1800.0),
        ("?queue_type=quorum&consumer_timeout=7200000", True, 7200.0),
        ("?consumer_timeout=0", True, None),
    ],
)
def test_what_the_url_says_of_rabbitmq_is_in_the_features(query: str, counts: bool, hold: float | None) -> None:
    """Whether it counts deliveries, and how long it waits for an acknowledgement."""
    features = new_transport(f"amqp://localhost//{query}").features
    assert (features.delivery_count, features.longest_hold) == (counts, hold)

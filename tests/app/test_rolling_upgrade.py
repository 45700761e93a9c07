"""The previous release's workers run on, and reconnect, beside those of this one, which has migrated the database."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from helpers import served, until

from paigeant import App
from paigeant.database import Database
from paigeant.database.migrations import migrations_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PREVIOUS = "471d217"
"""The commit before migrations said who can still read what they leave."""

SERVICE = """
import os
from paigeant import App, errors
assert not hasattr(errors, "SchemaTooOld"), "this is not the previous release"
app = App("rolling", broker=os.environ["URL"], queue_prefix=os.environ["PREFIX"], lease_seconds=3)

@app.activity
async def start() -> int:
    return 0

@app.activity
async def old(n: int) -> int:
    return n + 1
"""


@pytest.fixture(scope="session")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The previous release, taken from the history."""
    root = Path(__file__).parents[2]
    archive = subprocess.run(["git", "archive", PREVIOUS, "paigeant"], cwd=root, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"the commit {PREVIOUS} is not in this clone: git fetch --unshallow")
    folder = tmp_path_factory.mktemp("previous")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'paigeant.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def start_old(previous: Path, tmp_path: Path, prefix: str, url: str) -> Iterator[Callable[[], subprocess.Popen]]:
    """Start a worker of the previous release, and wait until it is ready."""
    (tmp_path / "service.py").write_text(SERVICE)
    environment = os.environ | {"PYTHONPATH": f"{previous}:{tmp_path}", "URL": url, "PREFIX": prefix}
    command = [sys.executable, "-c", "from paigeant.cli import main; main()", "worker", "-A", "service"]
    begun: list[subprocess.Popen] = []

    def start() -> subprocess.Popen:
        log = tmp_path / f"old-{len(begun)}.log"
        with log.open("wb") as output:
            begun.append(
                subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=subprocess.STDOUT)
            )
        until(lambda: "worker ready" in log.read_text() or begun[-1].poll() is not None, 60)
        assert begun[-1].poll() is None, log.read_text()
        return begun[-1]

    yield start
    for one in begun:
        one.kill()
        one.wait()


@pytest.fixture
def app(make_app: Callable[..., App], url: str) -> App:
    """This release, which serves what the old worker does not."""
    app = make_app(url, lease_seconds=3)

    @app.activity
    async def new(n: int) -> int:
        return n + 1

    return app


@pytest.fixture
def sender(make_app: Callable[..., App], url: str) -> App:
    """Knows the steps of both."""
    app = make_app(f"{url}?{'' if url.startswith('sqlite') else 'application_name=sender'}", lease_seconds=3)

    @app.activity
    async def start() -> int:
        return 0

    @app.activity
    async def new(n: int) -> int:
        return n + 1

    @app.activity
    async def old(n: int) -> int:
        return n + 1

    return app


def cut_all(url: str) -> None:
    """As a failover does."""
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def test_both_releases_work_on_one_database(
    app: App, sender: App, url: str, start_old: Callable[[], subprocess.Popen]
) -> None:
    """The old worker made the tables, this release adds to them; a cut makes both read the version again."""
    worker = start_old()
    async with served(app):
        database = Database(url)
        assert all(before == newest for before, newest in map(database.schema_of, ("stores", "transports")))
        database.dispose()
        assert await (await sender.dispatch("start", *["old", "new"] * 5)).result(timeout=60) == 10
        if url.startswith("postgresql"):
            cut_all(url)
        assert await (await sender.dispatch("start", *["old", "new"] * 5)).result(timeout=60) == 10
    assert worker.poll() is None


async def test_the_previous_release_can_come_back(
    sender: App, url: str, start_old: Callable[[], subprocess.Popen]
) -> None:
    """A rollback: this release made the tables, and only workers of the previous one are left."""
    begun = await sender.dispatch("start", "old", "old")
    worker = start_old()
    assert await begun.result(timeout=60) == 2
    assert worker.poll() is None
    database = Database(url)
    assert database.schema_of("stores")[0] == migrations_of("stores")[-1].number
    database.dispose()

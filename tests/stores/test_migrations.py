"""The schema: made by numbered migrations, by whoever comes first, and never by an older release over a newer one."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import event, inspect, text

from paigeant.database import Database, migrations
from paigeant.database.migrations import migrations_of
from paigeant.errors import SchemaTooNew
from paigeant.stores import tables
from paigeant.stores.sql import SqlStore
from paigeant.transports.sql import routes as sql_routes
from paigeant.transports.sql import statements as sql_statements

COMPONENTS = ("stores", "transports")


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh_url(request, tmp_path):
    """A database in which nothing has ever been."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def database(fresh_url):
    """The new database."""
    made = Database(fresh_url)
    yield made
    made.dispose()


def versions(database):
    with database.reader() as connection:
        rows = connection.execute(text("SELECT component, version FROM paigeant_schema")).all()
    return {row.component: row.version for row in rows}


@pytest.mark.parametrize("component", COMPONENTS)
def test_migrations_are_numbered_from_one_without_gaps(component):
    """So that the newest number is the schema's version."""
    assert [one.number for one in migrations_of(component)] == list(range(1, len(migrations_of(component)) + 1))


def test_the_version_of_each_component_is_kept(database):
    """Transport and store may live in different databases, so they are counted apart."""
    for component in COMPONENTS:
        database.migrate(component)
    newest = {component: migrations_of(component)[-1].number for component in COMPONENTS}
    assert {component: database.schema_of(component) for component in COMPONENTS} == {
        component: (number, number) for component, number in newest.items()
    }


@pytest.mark.parametrize(("component", "base"), [("stores", 18), ("transports", 1)])
def test_what_is_newer_than_the_first_release_says_who_can_still_read_it(component, base):
    """The workers of the previous release run on while the next one is rolled out."""
    newer = [one for one in migrations_of(component) if one.number > base]
    assert all("-- readable by: " in one.script.splitlines()[0] for one in newer)


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_newer_schema_that_only_adds_is_no_obstacle(database, component):
    """A rollback is possible; and the newer release finds its number as it left it."""
    database.migrate(component)
    with database.writer() as connection, connection.begin():
        connection.execute(text("UPDATE paigeant_schema SET applied = 99"))
    database.migrate(component)
    assert database.schema_of(component) == (99, 99)


@pytest.mark.parametrize(("component", "base"), [("stores", 18), ("transports", 1)])
def test_tables_of_a_release_that_knew_one_number_are_taken_over(database, component, base):
    """It wrote only the version, and compares with nothing else: it goes on finding what it wrote."""
    old = [one for one in migrations_of(component) if one.number <= base]
    with database.writer() as connection, connection.begin():
        connection.execute(text("CREATE TABLE paigeant_schema (component TEXT PRIMARY KEY, version INTEGER NOT NULL)"))
        for one in old:
            migrations._run(connection, one.script)
        row = {"component": component, "version": base}
        connection.execute(text("INSERT INTO paigeant_schema VALUES (:component, :version)"), row)
    database.migrate(component)
    newest = migrations_of(component)[-1].number
    assert database.schema_of(component) == (newest, newest)
    assert versions(database) == {component: base}


def test_connecting_to_a_current_schema_writes_and_makes_nothing(database):
    """Mere readers, and roles that may make no tables, can use it."""
    database.migrate("stores")
    statements = []
    for engine in (database.engine, database._reading):
        event.listen(engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
    database.migrate("stores")
    assert statements
    assert not [one for one in statements if re.match("(CREATE|ALTER|INSERT|UPDATE|BEGIN)", one)]


def test_migrating_again_changes_nothing(database):
    """Every process does it when it starts."""
    database.migrate("stores")
    with database.writer() as connection, connection.begin():
        connection.execute(tables.workers.insert().values(_row()))
    database.migrate("stores")
    with database.reader() as connection:
        assert connection.execute(tables.workers.select()).one().id == "kept"


def _row():
    return {
        "id": "kept",
        "app": "a",
        "host": "h",
        "pid": 1,
        "activities": [],
        "queues": [],
        "concurrency": 1,
        "started_at": 0.0,
        "seen_at": 0.0,
    }


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_newer_schema_is_refused(database, component):
    """An older release cannot know what its writes would break."""
    database.migrate(component)
    newer = migrations_of(component)[-1].number + 1
    with database.writer() as connection, connection.begin():
        connection.execute(text("UPDATE paigeant_schema SET version = :newer"), {"newer": newer})
    with pytest.raises(SchemaTooNew, match=f"the {component} tables have version {newer}") as caught:
        database.migrate(component)
    assert "upgrade" in caught.value.hint
    assert versions(database) == {component: newer}


@pytest.mark.anyio
async def test_a_store_says_that_its_schema_is_too_new(database, fresh_url):
    """As itself, not as a failure of the database."""
    database.migrate("stores")
    with database.writer() as connection, connection.begin():
        connection.execute(text("UPDATE paigeant_schema SET version = 99"))
    store = SqlStore(fresh_url)
    with pytest.raises(SchemaTooNew):
        await store.connect()
    await store.close()


def test_eight_threads_migrate_one_new_database(fresh_url):
    """Each waits for its turn; one does the work."""
    together = Barrier(8)

    def migrate(component: str) -> None:
        database = Database(fresh_url)
        together.wait()
        database.migrate(component)
        database.dispose()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(migrate, COMPONENTS * 4))
    database = Database(fresh_url)
    assert set(versions(database)) == set(COMPONENTS)
    database.dispose()


MIGRATE = """
import sys
from paigeant.database import Database, migrations
sys.stdin.readline()
for component in ("transports", "stores"):
    Database(sys.argv[1]).migrate(component)
"""


def test_several_processes_migrate_one_new_database(fresh_url, database):
    """As when a host starts its workers all at once."""
    command = [sys.executable, "-W", "error", "-c", MIGRATE, fresh_url]
    pipe = subprocess.PIPE
    workers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(4)]
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    errors = [worker.communicate(timeout=60)[1] for worker in workers]
    assert errors == [""] * 4
    assert set(versions(database)) == set(COMPONENTS)


def test_the_migrated_schema_is_what_the_code_believes_it_is(database):
    """Exactly the tables and columns of the table definitions, with the types each database has for them."""
    for component in COMPONENTS:
        database.migrate(component)
    known = [tables.metadata, sql_statements.metadata, sql_routes.metadata]
    believed = {table.name: {column.name for column in table.columns} for one in known for table in one.sorted_tables}
    inspector = inspect(database.engine)
    found = {
        name: {column["name"] for column in inspector.get_columns(name)}
        for name in inspector.get_table_names()
        if name not in ("paigeant_schema", "paigeant_clock")
    }
    assert found == believed


def test_the_primary_keys_are_what_the_code_believes_they_are(database):
    """Upserts name them."""
    database.migrate("stores")
    inspector = inspect(database.engine)
    for table in tables.metadata.sorted_tables:
        found = inspector.get_pk_constraint(table.name)["constrained_columns"]
        assert found == [column.name for column in table.primary_key]

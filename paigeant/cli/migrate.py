from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from paigeant.cli.connect import app_or_urls, carries_messages, is_broker_named, missing_file, urls_of
from paigeant.cli.errors import WrongUsage
from paigeant.cli.options import as_json, connections
from paigeant.cli.output import print_json, print_table
from paigeant.runtime.urls import is_database_url, masked

if TYPE_CHECKING:
    from paigeant.app import App

_LONGEST = 24 * 3600.0
"""Seconds for one statement: an index of a large table takes long, and here nobody holds a lease meanwhile."""


@click.command()
@click.option("--dry-run", is_flag=True, help="Show the changes and make none.")
@as_json
@connections
def migrate(dry_run: bool, as_json: bool) -> None:
    """Create or update the database tables of broker and store.

    Run it as the role that owns the tables, before workers of a new release start. Workers migrate when they connect,
    if their role has the permission. Workers of the previous release can run during the migration.
    """
    places = _places(app_or_urls(), dry_run=dry_run)
    found = [_migrated(name, url, dry_run) for name, url in places.items() if url and is_database_url(url)]
    if as_json:
        print_json(found)
    else:
        rows = [[*one.values()] for one in found]
        columns = ["tables", "database", "version", "needed" if dry_run else "now"]
        print_table(columns, rows, none="nothing to migrate: neither the broker nor the store is a database")


def _places(app: App, *, dry_run: bool) -> dict[str, str | None]:
    """The URL for the tables of each component.

    Raises:
        WrongUsage: nobody named a database, and there is none here.
    """
    broker, store = urls_of(app)
    places = {"transports": broker, "stores": store}
    if is_broker_named(app) or dry_run:
        return places
    if store is not None and "store_url" in app.settings.model_fields_set:
        return {"transports": store if carries_messages(store) else None, "stores": store}
    if path := missing_file(broker):
        text = f"which database? You named none, and there is no {path} in this folder"
        hint = "add: -b URL, --store URL or -A APP, or set PAIGEANT_BROKER_URL; to create it here: -b sqlite:///paigeant.db"
        raise WrongUsage(text, hint=hint)
    return places


def _migrated(component: str, url: str, dry_run: bool) -> dict[str, Any]:
    from paigeant.database import Database, unreachable_as
    from paigeant.errors import StoreError

    database = Database(url, longest_statement=_LONGEST)
    try:
        with unreachable_as(StoreError, f"cannot migrate {masked(url)}"):
            before, newest = database.schema_of(component)
            if not dry_run:
                database.migrate(component)
    finally:
        database.dispose()
    return {"tables": component, "database": masked(url), "before": before, "after": newest}

"""Builds the App to query from the options ``-A``, ``-b`` and ``--store`` and from the settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from paigeant.cli.errors import NotFound, WrongUsage, warn
from paigeant.cli.options import Options
from paigeant.errors import AppNotFound, StoreRequired, WorkflowNotFound
from paigeant.records.workflow import HERE
from paigeant.runtime.nearest import did_you_mean

if TYPE_CHECKING:
    from paigeant.app import App
    from paigeant.config import Settings
    from paigeant.store import History, Store

T = TypeVar("T")


# --- which App -------------------------------------------------------------------------------------------------------


def settings_in_force(log_level: str | None = "warning", log_format: str | None = None) -> Settings:
    """The settings, overridden by the command line. Also configures logging."""
    from paigeant.config import load_settings
    from paigeant.runtime import logs

    said = Options.current()
    settings = load_settings(app=said.app, broker_url=said.broker, store_url=said.store)
    logs.configure(log_level or settings.log_level, log_format or settings.log_format)
    return settings


def named_app(settings: Settings | None = None) -> App:
    """The App that -A or the settings name.

    Raises:
        AppNotFound: no App is named, or it cannot be loaded.
    """
    from paigeant.cli.loading import candidates, load

    target = (settings or settings_in_force()).app
    if not target:
        found = candidates()
        raise AppNotFound(
            "which App? Set one with -A, PAIGEANT_APP or app in [tool.paigeant]",
            hint=f"add: -A {found[0]}" if found else "add: -A MODULE, or create a module: paigeant init",
        )
    app = load(target)
    app.use(broker=Options.current().broker, store=Options.current().store)
    return app


def app_or_urls() -> App:
    """The named App, else an App with only the URLs of the settings. URLs on the command line win."""
    from paigeant.app import App

    said, settings = Options.current(), settings_in_force()
    if _is_app_named(said, settings):
        return named_app(settings)
    return App("paigeant", broker=said.broker, store=said.store)


def _is_app_named(said: Options, settings: Settings) -> bool:
    return bool(settings.app and (said.app or not (said.broker or said.store)))


def is_broker_named(app: App) -> bool:
    """Whether somebody named the broker: on the command line, in a setting, or by naming the App that has it."""
    return "broker_url" in app.settings.model_fields_set or _is_app_named(Options.current(), settings_in_force())


def urls_of(app: App) -> tuple[str, str | None]:
    """Where broker and store are."""
    from paigeant.stores import store_url

    return app.settings.broker_url, store_url(app.settings.broker_url, app.settings.store_url)


def missing_file(url: str | None) -> Path | None:
    """The file of a SQLite URL if its folder exists and the file does not: nothing was dispatched here yet."""
    scheme, _, rest = (url or "").partition(":///")
    path = Path(rest.partition("?")[0])
    if not scheme.startswith("sqlite") or not path.name or path.name == ":memory:":
        return None
    return path if path.parent.is_dir() and not path.exists() else None


def for_reading(app: App, *, queues: bool = False) -> App:
    """The App. In place of a database file that does not exist, it has an empty one: reading creates no file.

    ``queues``: the command reads the broker, too.
    """
    broker, store = urls_of(app)
    missing = missing_file(store) or (missing_file(broker) if queues else None)
    if missing is not None:
        warn(f"there is no {missing} yet: is this the right folder, or did nothing run so far?")
    elif missing_file(broker) is None:
        return app
    return _in_memory(app, broker="memory://" if missing_file(broker) else broker, store=store)


def for_sending(app: App) -> App:
    """The App for a command that sends. :func:`settle_broker` checks its broker; a missing store is an empty one."""
    return for_reading(app) if missing_file(urls_of(app)[1]) else app


def _in_memory(app: App, broker: str, store: str | None) -> App:
    """The App with an empty store in memory, or another broker."""
    from paigeant.app import App as Empty

    empty = Empty(app.name, broker=broker, store="sqlite://" if missing_file(store) else store or "none")
    empty.activities, empty.prefix = app.activities, app.prefix
    return empty


# --- queries --------------------------------------------------------------------------------------------------------


def ask(app: App, question: Callable[[App], Awaitable[T]]) -> T:
    """Run the coroutine function with the App, and disconnect."""
    import asyncio

    async def asked() -> T:
        try:
            return await question(app)
        finally:
            await app.close()

    return asyncio.run(asked())


def ask_to_send(question: Callable[[App], Awaitable[T]]) -> T:
    """:func:`ask` for commands that act on workflows in a store, whose broker must be theirs.

    Raises:
        WrongUsage: it is another one, or nobody said which it is.
    """
    return ask(for_sending(app_or_urls()), settled(question))


def settled(question: Callable[[App], Awaitable[T]]) -> Callable[[App], Awaitable[T]]:
    """The question, asked once :func:`settle_broker` has seen to the broker."""

    async def asked(app: App) -> T:
        await settle_broker(app)
        return await question(app)

    return asked


async def settle_broker(app: App) -> None:
    """See that the App has the broker of the workflows in its store, before anything is sent.

    A database that carries messages is the broker of its store. The default broker counts only where workers use it.

    Raises:
        WrongUsage: it is another one, or nobody said which it is.
    """
    if app.store is None:
        if not is_broker_named(app):
            raise _which_broker(app, [], is_said=False)
        return
    known = {one.broker: one.address for one in await app.store.brokers()}
    if app.owner.broker in known:
        return
    is_said = "broker_url" in app.settings.model_fields_set or app.owner.broker == HERE
    if not is_said and (HERE in known or not known) and carries_messages(app.store.url):
        app.use(broker=app.store.url)
        app.store.owner = app.owner
    elif not is_said or (known and not any(_may_be_one(app.settings.broker_url, one) for one in known.values())):
        raise _which_broker(app, sorted(set(known.values())), is_said=is_said)


def _which_broker(app: App, used: list[str], *, is_said: bool) -> WrongUsage:
    from paigeant.runtime.urls import masked
    from paigeant.stores import store_url

    broker, store = app.settings.broker_url, masked(store_url(app.settings.broker_url, app.settings.store_url) or "")
    text = f"{masked(broker)} is not the broker of these workflows"
    if not is_said and store:
        text = f"which broker? {store} does not carry the messages of its workflows, and you named no broker"
    elif not is_said:
        text = "which broker? You named none"
    hint = (
        f"workers of this store use: {', '.join(used)}"
        if used
        else "add: -b URL, with the broker of the workers, or set PAIGEANT_BROKER_URL"
    )
    return WrongUsage(text, hint=hint)


def _may_be_one(url: str, address: str) -> bool:
    """Whether two URLs differ in nothing but the name of the server, which may have several."""
    from paigeant.runtime.urls import address_of

    kinds = [address_of(one).partition("://") for one in (url, address)]
    names = [(kind, rest.partition("/")[2]) for kind, _, rest in kinds]
    return names[0] == names[1] and bool(kinds[0][2])


def carries_messages(url: str) -> bool:
    """Whether messages have been sent through this database."""
    from paigeant.database import Database

    database = Database(url)
    try:
        return bool(database.schema_of("transports")[0])
    finally:
        database.dispose()


def ask_store(question: Callable[[Store], Awaitable[T]]) -> T:
    """:func:`ask` for commands that read the store and nothing else."""
    return ask(for_reading(app_or_urls()), lambda app: question(store_of(app)))


def store_of(app: App) -> Store:
    """The App's store.

    Raises:
        StoreRequired: it has none.
    """
    if app.store is None:
        raise StoreRequired(
            "this command reads the store: no store is configured for this broker",
            hint="add: --store sqlite:///paigeant.db, or set PAIGEANT_STORE_URL",
        )
    return app.store


async def full_id(store: History, beginning: str) -> str:
    """The id of the only workflow whose id begins with this text.

    Raises:
        WorkflowNotFound: no id begins with it.
        WrongUsage: several ids begin with it.
    """
    found = await store.find(beginning) if beginning else ()
    if beginning in found or len(found) == 1:
        return beginning if beginning in found else found[0]
    if not found:
        raise WorkflowNotFound(f"no workflow's id begins with {beginning!r}", correlation_id=beginning)
    raise WrongUsage(
        f"several workflow ids begin with {beginning!r}: {', '.join(found[:3])}{', …' if len(found) > 3 else ''}",
        hint="type more characters of the id",
    )


def unknown(what: str, name: str, known: list[str], *, kind: type[WrongUsage | NotFound] = WrongUsage) -> Exception:
    """The error for a name that is not among the known ones."""
    there = f"available: {', '.join(sorted(known)[:10])}" if known else None
    return kind(f"there is no {what} {name!r}", hint=did_you_mean(name, known, there))

"""From what was said (``-A``, ``-b``, ``--store``, the settings) to an App whose broker and store can be asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from paigeant.cli.errors import NotFound, WrongUsage, warn
from paigeant.cli.options import Options
from paigeant.errors import AppNotFound, StoreRequired, WorkflowNotFound

if TYPE_CHECKING:
    from paigeant.app import App
    from paigeant.config import Settings
    from paigeant.store import Store

T = TypeVar("T")


# --- which App -------------------------------------------------------------------------------------------------------


def settings_in_force(log_level: str | None = "warning", log_format: str | None = None) -> Settings:
    """The settings, with what was said on the command line. Logs go where they are to go from here on."""
    from paigeant import logs
    from paigeant.config import load_settings

    said = Options.current()
    settings = load_settings(app=said.app, broker_url=said.broker, store_url=said.store)
    logs.configure(log_level or settings.log_level, log_format or settings.log_format)
    return settings


def named_app(settings: Settings | None = None) -> App:
    """The App that was named.

    Raises:
        AppNotFound: none was, or it cannot be loaded.
    """
    from paigeant.cli.loading import candidates, load

    target = (settings or settings_in_force()).app
    if not target:
        found = candidates()
        raise AppNotFound(
            "which App? none is named: neither by -A nor by PAIGEANT_APP nor by [tool.paigeant] app",
            hint=f"add: -A {found[0]}" if found else "add: -A module, or write one to start from: paigeant init",
        )
    return load(target)


def app_or_urls() -> App:
    """The App that was named, else an App of nothing but the URLs in force. URLs that were said win."""
    from paigeant.app import App
    from paigeant.cli.loading import load

    said, settings = Options.current(), settings_in_force()
    if settings.app and (said.app or not (said.broker or said.store)):
        app = load(settings.app)
        app.use(broker=said.broker, store=said.store)
        return app
    return App("paigeant", broker=said.broker, store=said.store)


def urls_of(app: App) -> tuple[str, str | None]:
    """Where broker and store are."""
    from paigeant.stores import store_url

    return app.settings.broker_url, store_url(app.settings.broker_url, app.settings.store_url)


def missing_file(url: str | None) -> Path | None:
    """The file of a SQLite URL, if it is not there although its folder is: nothing was dispatched here yet."""
    scheme, _, rest = (url or "").partition(":///")
    path = Path(rest.partition("?")[0])
    if not scheme.startswith("sqlite") or not path.name or path.name == ":memory:":
        return None
    return path if path.parent.is_dir() and not path.exists() else None


def for_reading(app: App) -> App:
    """The App; where its database file does not exist, one that is empty, so that looking does not make the file."""
    from paigeant.app import App as Empty

    broker, store = urls_of(app)
    if (path := missing_file(store)) is None:
        return app
    warn(f"there is no {path} yet: is this the right folder, or did nothing run so far?")
    empty = Empty(app.name, broker="memory://" if missing_file(broker) else broker, store="sqlite://")
    empty.activities, empty.prefix = app.activities, app.prefix
    return empty


# --- asking it -------------------------------------------------------------------------------------------------------


def ask(app: App, question: Callable[[App], Awaitable[T]]) -> T:
    """Run the coroutine function with the App, and disconnect."""
    import asyncio

    async def asked() -> T:
        try:
            return await question(app)
        finally:
            await app.close()

    return asyncio.run(asked())


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
            "this is read from a store: and there is none beside this broker",
            hint="name one: --store sqlite:///paigeant.db, or PAIGEANT_STORE_URL",
        )
    return app.store


async def full_id(store: Store, beginning: str) -> str:
    """The id of the one workflow whose id begins so.

    Raises:
        WorkflowNotFound, WrongUsage: there is none, or more than one.
    """
    found = await store.find(beginning) if beginning else ()
    if beginning in found or len(found) == 1:
        return beginning if beginning in found else found[0]
    if not found:
        raise WorkflowNotFound(f"no workflow's id begins with {beginning!r}", correlation_id=beginning)
    raise WrongUsage(
        f"several workflows' ids begin with {beginning!r}: {', '.join(found[:3])}{', …' if len(found) > 3 else ''}",
        hint="type more of the id",
    )


def unknown(what: str, name: str, known: list[str], *, kind: type[WrongUsage | NotFound] = WrongUsage) -> Exception:
    """The error for a name that is not among the known ones."""
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(sorted(known)[:10])}" if known else None
    return kind(f"there is no {what} {name!r}", hint=hint)

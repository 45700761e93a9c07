"""The store in a SQL database: SQLite or PostgreSQL, by the same statements."""

from __future__ import annotations

from paigeant.runtime.clock import Clock
from paigeant.store import Store
from paigeant.stores.access import Access
from paigeant.stores.roles.history import SqlHistory
from paigeant.stores.roles.inbox import SqlInbox
from paigeant.stores.roles.journals import SqlJournals
from paigeant.stores.roles.keys import SqlKeys
from paigeant.stores.roles.letters import SqlLetters
from paigeant.stores.roles.locks import SqlLocks
from paigeant.stores.roles.outbox import SqlOutbox
from paigeant.stores.roles.presence import SqlPresence
from paigeant.stores.roles.retention import SqlRetention
from paigeant.stores.roles.schedules import SqlSchedules
from paigeant.stores.roles.statements import SqlStatements
from paigeant.stores.roles.steering import SqlSteering
from paigeant.stores.roles.values import SqlValues
from paigeant.stores.roles.waits import SqlWaits


class SqlStore(
    SqlInbox,
    SqlOutbox,
    SqlHistory,
    SqlWaits,
    SqlLocks,
    SqlSteering,
    SqlJournals,
    SqlValues,
    SqlKeys,
    SqlRetention,
    SqlLetters,
    SqlPresence,
    SqlSchedules,
    SqlStatements,
    Store,
):
    """All roles over one database. A role alone is, for example, ``SqlLocks(store.access)``."""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        super().__init__(Access(url, clock))

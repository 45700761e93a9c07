"""The contract between paigeant and the store that remembers its workflows: one Protocol per role.

Code that uses a store names the narrowest role it needs in its annotations. :class:`Store` is all roles together.
"""

from __future__ import annotations

from typing import Protocol

from paigeant.store.control import Locks, Steering, Waits
from paigeant.store.history import History, SagaRepository
from paigeant.store.letters import Letters
from paigeant.store.messages import Inbox, Outbox
from paigeant.store.schedules import Schedules
from paigeant.store.shared import Shared
from paigeant.store.statements import Statements
from paigeant.store.values import Journals, Keys, Retention, Values
from paigeant.store.workers import Presence

__all__ = [
    "History",
    "Inbox",
    "Journals",
    "Keys",
    "Letters",
    "Locks",
    "Outbox",
    "Presence",
    "Retention",
    "SagaRepository",
    "Schedules",
    "Shared",
    "Statements",
    "Steering",
    "Store",
    "Values",
    "Waits",
]


class Store(
    Inbox,
    Outbox,
    History,
    Waits,
    Locks,
    Steering,
    Journals,
    Values,
    Keys,
    Retention,
    Letters,
    Presence,
    Schedules,
    Statements,
    Protocol,
):
    """Everything that paigeant asks of a store. Every method may be called from any event loop.

    A store also keeps large values: it is a :class:`paigeant.wire.claim_check.Keeper`.

    Raises everywhere:
        StoreError: the database is unreachable or refused the call.
    """

"""What every store must do: one class of tests for each role of a store."""

from __future__ import annotations

from paigeant.testing.conformance.stores.history import History
from paigeant.testing.conformance.stores.inbox import Inbox
from paigeant.testing.conformance.stores.journals import Journals
from paigeant.testing.conformance.stores.keys import Keys
from paigeant.testing.conformance.stores.letters import Letters
from paigeant.testing.conformance.stores.locks import Locks
from paigeant.testing.conformance.stores.outbox import Outbox
from paigeant.testing.conformance.stores.presence import Presence
from paigeant.testing.conformance.stores.retention import Retention
from paigeant.testing.conformance.stores.schedules import Schedules
from paigeant.testing.conformance.stores.steering import Steering
from paigeant.testing.conformance.stores.values import Values
from paigeant.testing.conformance.stores.waits import Waits


class StoreConformance(
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
):
    """Subclass it with a pytest fixture ``store`` that returns an empty, unconnected store, new for each test."""

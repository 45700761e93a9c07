"""What every store promises."""

from __future__ import annotations

from paigeant.testing.conformance.stores.journals import Journals
from paigeant.testing.conformance.stores.keeping import Keeping
from paigeant.testing.conformance.stores.letters import DeadLetters
from paigeant.testing.conformance.stores.locks import Locks
from paigeant.testing.conformance.stores.reading import Reading
from paigeant.testing.conformance.stores.recording import Recording
from paigeant.testing.conformance.stores.steering import Steering


class StoreConformance(Recording, Reading, Keeping, Locks, Steering, Journals, DeadLetters):
    """Subclass it with a pytest fixture ``store`` that gives an empty, unconnected store, new for each test."""

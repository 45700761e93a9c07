"""What every transport and every store promises, as tests for pytest: subclass, name what is tested, run.

Ask pytest to explain failed assertions in here, too, before anything imports this package::

    pytest.register_assert_rewrite("paigeant.testing.conformance")
"""

from __future__ import annotations

from paigeant.testing.conformance.scratch import KombuScratch, Scratch
from paigeant.testing.conformance.stores import StoreConformance
from paigeant.testing.conformance.transports import TransportConformance

__all__ = ["KombuScratch", "Scratch", "StoreConformance", "TransportConformance"]

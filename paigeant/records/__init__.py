"""What is known about workflows: the records that a store returns."""

from __future__ import annotations

from paigeant.runtime.moved import names_of

__getattr__ = names_of("paigeant.records", "paigeant.records.workflow")

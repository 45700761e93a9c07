"""What a worker does with one message: from the delivery to the settlement, with all that a running step needs."""

from __future__ import annotations

from paigeant.runner.runner import Runner

__all__ = ["Runner"]

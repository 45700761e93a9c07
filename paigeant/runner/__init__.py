"""The runner executes one message: from its delivery to the settlement, with everything that a running step needs."""

from __future__ import annotations

from paigeant.runner.runner import Runner

__all__ = ["Runner"]

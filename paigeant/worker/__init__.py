"""The worker process."""

from __future__ import annotations

from paigeant.worker.worker import Worker

__all__ = ["Worker"]

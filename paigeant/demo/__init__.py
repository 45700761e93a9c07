"""The workflow of ``paigeant demo``: real work on real documents, long enough to be killed in the middle."""

from __future__ import annotations

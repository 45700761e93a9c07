"""Messages that were set aside, wherever they are kept: to look at, send again, change and throw away."""

from __future__ import annotations

from paigeant.dead_letters.letters import DeadLetters, Filters, Handled

__all__ = ["DeadLetters", "Filters", "Handled"]

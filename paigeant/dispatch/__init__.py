"""Starts workflows and executes plans: packs messages, settles deliveries, records facts, publishes parked messages."""

from __future__ import annotations

from paigeant.runtime.moved import names_of

__getattr__ = names_of("paigeant.dispatch", "paigeant.dispatch.dispatcher")

"""What travels: the message, its routing slip, and the values, limits and policies that both carry."""

from __future__ import annotations

from paigeant.runtime.moved import names_of

__getattr__ = names_of("paigeant.wire", "paigeant.wire.model")

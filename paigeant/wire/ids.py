"""Identifiers: correlation ids are time-ordered, message ids are derived from what they identify."""

from __future__ import annotations

import os
import time
from hashlib import blake2b
from uuid import UUID


def new_correlation_id() -> str:
    """A new workflow id: UUID version 7 (RFC 9562, section 5.7), so that ids sort by the time of dispatch."""
    milliseconds = time.time_ns() // 1_000_000
    value = milliseconds << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0b11 << 62) | 0b10 << 62
    return str(UUID(int=value))


def derive_message_id(
    correlation_id: str, step_id: str, heading: str, attempt: int, epoch: int = 0, resumes: int = 0
) -> str:
    """The id of the message that carries this attempt of this step: 32 hex digits.

    The same step sent twice is one message, so receivers and brokers can drop the copy.
    """
    parts = [correlation_id, step_id, heading, str(attempt), str(epoch)]
    if resumes:
        parts.append(str(resumes))
    return blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest()


def shortened(name: str, most: int = 200) -> str:
    """A name made of others, at most so long: a longer one is cut and ends in a digest of all of it."""
    if len(name) <= most:
        return name
    digest = _digest(name).hex()
    return f"{name[: most - len(digest) - 1]}~{digest}"


def derive_child_id(correlation_id: str, step_id: str, ordinal: int) -> str:
    """The id of the nth workflow that a step dispatches: the same however often the step runs.

    A UUID of version 8 (RFC 9562, section 5.8) that keeps the time of the parent's, if that is a UUID of version 7.
    """
    digest = _digest(correlation_id, step_id, str(ordinal))
    try:
        time_part = UUID(correlation_id).bytes[:6]
    except ValueError:
        time_part = digest[:6]
    return _uuid8(time_part + digest[6:])


def derive_keyed_id(app: str, key: str) -> str:
    """The id of the workflow that an idempotency key of an App stands for: a UUID of version 8."""
    return _uuid8(_digest("key", app, key))


def derive_schedule_id(app: str, schedule: str, at: float) -> str:
    """The id of the workflow that a schedule of an App dispatches for this time: the same for every worker.

    A UUID of version 8 that begins with the time, so that it sorts among the others.
    """
    milliseconds = int(at * 1000)
    return _uuid8(milliseconds.to_bytes(6) + _digest("schedule", app, schedule, str(milliseconds))[6:])


def _digest(*parts: str) -> bytes:
    return blake2b("\x1f".join(parts).encode(), digest_size=16).digest()


def _uuid8(octets: bytes) -> str:
    value = int.from_bytes(octets)
    value = value & ~(0xF << 76) | 0x8 << 76
    value = value & ~(0b11 << 62) | 0b10 << 62
    return str(UUID(int=value))

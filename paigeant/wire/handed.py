"""A message as a handler that moves slips by hand is given it.

Messages and slips are frozen. The handlers of the source documents change theirs in place and publish it; what they are
given is this, and what they do to it is what their step does: the worker forwards the message when the step ends.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec, RoutingSlip
from paigeant.wire.values import jsonable


class HandedSlip:
    """The routing slip of a message in hand: :meth:`mark_complete` changes it; all else is read from the slip."""

    def __init__(self, slip: RoutingSlip) -> None:
        self._slip = slip
        self.output: Any = None
        self.is_advanced = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._slip, name)

    def mark_complete(self, step: str | ActivitySpec, output: Any = None) -> None:
        """The current step is done, with this output.

        Raises:
            ValueError: ``step`` is not the current step, or it was marked before.
            NotSerializable: the output cannot be written as JSON.
        """
        if self.is_advanced:
            raise ValueError(f"cannot complete {step!r}: a handler completes the one step it was given")
        self.output = jsonable(output, "the output")
        self._slip = self._slip.mark_complete(step, self.output)
        self.is_advanced = True


class HandedMessage:
    """A message in the hands of the worker's handler. ``payload`` are the variables, for reading and setting.

    Publishing it sends nothing yet: the worker forwards it, to the step that is next, when the handler has returned.
    """

    def __init__(self, message: PaigeantMessage, payload: MutableMapping[str, Any]) -> None:
        self._message = message
        self.payload = payload
        self.routing_slip = HandedSlip(message.routing_slip)
        self.error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """The current step has failed with this error: its retry policy decides what follows, as if it were raised."""
        self.error = error

    @property
    def is_decided(self) -> bool:
        """Whether the handler has said how the step ended."""
        return self.error is not None or self.routing_slip.is_advanced

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)

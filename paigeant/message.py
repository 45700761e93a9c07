"""The message: the envelope in which a routing slip travels."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator

from paigeant.ids import derive_message_id, new_correlation_id
from paigeant.slip import ActivitySpec, RoutingSlip
from paigeant.values import JsonObject
from paigeant.wire import Label, WireModel

SPEC_VERSION = "1.1"
"""The wire format this release writes. A change of the first number is one an older worker must refuse."""


REQUIRED = frozenset({"correlation_id", "routing_slip", "spec_version"})
"""What every message on the wire says, although those who build one by hand need not."""


class PaigeantMessage(WireModel):
    """One attempt of one step on its way to a worker.

    ``id`` is derived from (correlation id, step id, heading, attempt, epoch), so the same step sent twice is one
    message. ``epoch`` counts redrives by an operator. ``trace_context`` is W3C trace context. The last group of fields
    is reserved for signatures and delegated identity.

    ``resumes`` counts how often the step was parked and went on, and ``received`` lists what it waited for, by key.
    ``parent`` is the workflow that dispatched this one.
    """

    model_config = ConfigDict(json_schema_extra={"required": list[Any](sorted(REQUIRED))})

    spec_version: Annotated[str, Field(pattern=r"^\d+\.\d+$")] = ""
    id: str = ""
    correlation_id: Annotated[Label, Field(min_length=1)] = Field(default_factory=new_correlation_id)
    causation_id: Label | None = None
    name: Label = ""
    attempt: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    epoch: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    resumes: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    received: JsonObject = Field(default_factory=dict)
    parent: Label | None = None
    routing_slip: RoutingSlip
    trace_context: dict[str, str] = Field(default_factory=dict)

    obo_token: str | None = None
    principal: dict[str, Any] | None = None
    signature: str | None = None

    @model_validator(mode="after")
    def _derived(self) -> Self:
        if not self.routing_slip.itinerary:
            raise ValueError("the routing slip is empty: a message always has a current step")
        derived = self._derive(self.routing_slip, self.attempt, self.resumes)
        if self.id not in ("", derived):
            raise ValueError("the id does not belong to this step and attempt")
        # Frozen for everyone else: this runs before the message is handed out.
        self.__dict__["id"] = derived
        self.__dict__["spec_version"] = self.spec_version or SPEC_VERSION
        return self

    @property
    def step(self) -> ActivitySpec:
        """The current step."""
        return self.routing_slip.itinerary[0]

    @property
    def payload(self) -> dict[str, Any]:
        """The workflow's variables."""
        return self.routing_slip.variables

    def _derive(self, slip: RoutingSlip, attempt: int, resumes: int) -> str:
        step = slip.itinerary[0].id
        return derive_message_id(self.correlation_id, step, slip.heading, attempt, self.epoch, resumes)

    def next(self, slip: RoutingSlip) -> PaigeantMessage:
        """The message that follows this one: same workflow, next step."""
        return self._following(routing_slip=slip, attempt=1, resumes=0, received={})

    def again(self) -> PaigeantMessage:
        """The next attempt of the same step."""
        return self._following(attempt=self.attempt + 1)

    def resumed(self) -> PaigeantMessage:
        """The same attempt of the same step, after what it waits for has come; see :meth:`receiving`."""
        return self._following(resumes=self.resumes + 1)

    def receiving(self, key: str, value: Any) -> PaigeantMessage:
        """The message with what its step waited for, after what came for the same key before; the id stays."""
        arrived = [*self.received.get(key, ()), value]
        return self.model_copy(update={"received": {**self.received, key: arrived}})

    def _following(self, **changes: Any) -> PaigeantMessage:
        after = self.model_copy(update=changes | {"causation_id": self.id})
        after.__dict__["id"] = after._derive(after.routing_slip, after.attempt, after.resumes)
        return after

"""Waits for timers, signals, approvals and workflows, without holding a process or a message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paigeant.context.services import Services
from paigeant.context.state import StepState
from paigeant.decisions.interrupts import Park
from paigeant.errors import ChildFailed, InvalidInput, MessageTooLarge, SignalTimeout
from paigeant.records.workflow import Status
from paigeant.wire.approval import Approval, asked, content_of, question_of
from paigeant.wire.json_schema import described, misfit
from paigeant.wire.limits import refuse_too_large
from paigeant.wire.message import child_key, is_sleep
from paigeant.wire.names import check_name
from paigeant.wire.times import bounded
from paigeant.wire.typed_values import revive
from paigeant.wire.values import copied, jsonable


def signal_key(name: str) -> str:
    """The key under which a signal arrives."""
    return f"signal:{name}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Returns arrivals of a step. While there is none, each method parks the step: it raises ``Park``."""

    state: StepState
    services: Services

    def sleep(self, seconds: float | None, until: float | None) -> None:
        """Wait for a number of seconds, or until a time in epoch seconds."""
        if until is not None:
            seconds = max(0.0, until - self.services.clock.now())
        check_seconds("seconds" if until is None else "until", seconds)
        self.arrival(self.state.sleep_key, seconds or 0.0, None)

    def await_signal(self, name: str, timeout: float | None, schema: Any, details: Any) -> Any:
        """The value of a signal, as ``schema``."""
        check_name("the name of a signal", name)
        expected = described(schema)
        detail = {"signal": name} | ({"schema": expected} if expected is not None else {})
        if details is not None:
            detail["details"] = self._details(details)
        check_seconds("timeout", timeout)
        value = self.arrival(signal_key(name), timeout, detail)
        if not isinstance(schema, dict):
            return revive(value, schema)
        if (why := misfit(value, schema)) is not None:
            raise InvalidInput(f"signal {name!r} is not what this step waits for: {why}")
        return value

    def await_approval(self, asks: str, details: Any, timeout: float | None) -> Approval:
        """The answer to a question."""
        shown = asked(asks, self._details(details))
        content = content_of(shown)  # an answer counts for this text and these details only
        return self.ask(f"{content}:{self.state.nth_question(content)}", shown, timeout)

    def ask(self, which: str, shown: Mapping[str, Any], timeout: float | None) -> Approval:
        """The answer to the question that ``which`` names among those of this place."""
        check_seconds("timeout", timeout)
        message, key = self.state.message, self.state.approval_key(which)
        question = question_of(message.correlation_id, message.step.id, message.epoch, key, shown)
        return Approval(**self.arrival(key, timeout, {**shown, "question": question}))

    def _details(self, details: Any) -> Any:
        """The details that people see while the step waits, as JSON types."""
        serialized = jsonable(details, "details")
        refuse_too_large(serialized, "the details of what the step waits for", self.services.value_limit)
        return serialized

    def wait_for(self, workflow: str, timeout: float | None, kind: Any) -> Any:
        """The output of a workflow, as ``kind``."""
        check_seconds("timeout", timeout)
        end = self.arrival(child_key(workflow), timeout, {"workflow": workflow})
        if end["status"] != Status.COMPLETED.value:
            error = end["error"]
            why = f": {error['type']}: {error['message']}" if error else ""
            raise ChildFailed(f"workflow {workflow}: {end['status']}{why}", hint=f"see: paigeant workflow {workflow}")
        return revive(end["output"], kind)

    def arrival(self, key: str, seconds: float | None, detail: Any) -> Any:
        """A copy of the first value that arrived for this key and that no other wait of this run has used."""
        arrived = self.state.message.received.get(key, ())
        number = self.state.take(key)
        if number >= len(arrived):
            raise Park(key, seconds, detail)
        if "error" in arrived[number]:
            raise MessageTooLarge(arrived[number]["error"])
        if "value" in arrived[number] or is_sleep(key):
            return copied(arrived[number].get("value"))
        raise SignalTimeout(f"{key!r} did not come in time")


def check_seconds(name: str, seconds: float | None) -> None:
    """Check a duration; None is valid.

    Raises:
        InvalidArguments: no number, or more than a hundred years.
    """
    if seconds is not None:
        bounded(name, seconds)

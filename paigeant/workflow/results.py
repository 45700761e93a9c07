"""The type of a workflow's result: checks it and validates outputs against it."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic.errors import PydanticUserError
from typing_extensions import TypeVar

from paigeant.activity import problem
from paigeant.dispatch.timers import Timers
from paigeant.errors import InvalidArguments, KeysUnavailable, Untrusted, WorkflowError
from paigeant.records.trust import ProofFailed
from paigeant.records.workflow import WorkflowRecord
from paigeant.wire.typed_values import form_of, revive

Result = TypeVar("Result", default=Any, covariant=True)
"""The type of a workflow's result."""

OWN_TYPE: Any = object()
"""The default ``result_type``: it means the type that the last activity returns."""


def checked_type(result_type: Any) -> Any:
    """Return the ``result_type`` after a check that pydantic supports it.

    Raises:
        InvalidArguments: pydantic cannot validate values of this type.
    """
    if result_type is not OWN_TYPE:
        try:
            form_of(result_type)
        except (PydanticUserError, NameError, TypeError) as error:
            why = next(iter(str(error).splitlines()), type(error).__name__)
            text = f"result_type: pydantic cannot validate {result_type!r}: {why}"
            raise InvalidArguments(text, hint="pass a type that pydantic knows, or leave result_type out") from error
    return result_type


async def refuse_unproved(timers: Timers | None, ended: WorkflowRecord) -> None:
    """Check the end of a workflow against its signed statements, if the App signs.

    Raises:
        WorkflowError: they do not prove that it ended so, or with this output.
    """
    if timers is None:
        return
    of, dispatcher = ended.correlation_id, timers.dispatcher
    try:
        await dispatcher.proving.result(ended)
    except (Untrusted, KeysUnavailable) as error:
        text = f"the end of workflow {of} in the store is not trusted: {error}"
        if isinstance(error, Untrusted):
            doubt: dict[str, Any] = {"key": "result", "code": error.code, "reason": text}
            await dispatcher.note([ProofFailed(**_NO_STEP, correlation_id=of, at=timers.clock.now(), **doubt)])
        raise WorkflowError(text, correlation_id=of, hint=f"see: paigeant events {of}") from error


_NO_STEP: dict[str, Any] = {"message_id": "", "step_id": "", "activity": "", "attempt": 0, "worker": ""}


def typed(correlation_id: str, output: Any, output_type: Any, declared_by: str) -> Any:
    """Validate the output of a completed workflow as this type. ``declared_by`` names the source of the type.

    Raises:
        WorkflowError: the output does not fit the type.
    """
    try:
        return revive(output, output_type)
    except (ValidationError, PydanticUserError) as error:
        why = f": {problem(error)}" if isinstance(error, ValidationError) else ""
        raise WorkflowError(
            f"workflow {correlation_id} completed, but its output does not fit {output_type!r}{why}",
            correlation_id=correlation_id,
            hint=f"correct the {declared_by}; (await workflow.record()).output has it as JSON",
        ) from error

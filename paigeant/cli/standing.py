"""Shows a workflow that needs a person: what its steps wait for, and the command to type next."""

from __future__ import annotations

from collections.abc import Sequence

from paigeant.cli.output import WAITS
from paigeant.records.workflow import Held, Status, WorkflowRecord
from paigeant.store import Letters, Waits


async def people_of(store: Waits, found: WorkflowRecord) -> Sequence[Held]:
    """The messages of a workflow that wait for an operator or for an approval."""
    if found.status.is_terminal:
        return ()
    from paigeant.decisions.forward import OPERATOR
    from paigeant.wire.approval import KEY as APPROVAL

    return [one for key in (OPERATOR, APPROVAL) for one in await store.held(found.correlation_id, key)]


async def refused_of(store: Letters, correlation_id: str) -> list[str]:
    """One line for each refused message that names this workflow: the workflow may wait for it."""
    from paigeant.records.workflow import Letters as Which

    found = [one for one in await store.dead_letters(which=Which(workflow=correlation_id)) if one.claimed]
    return [
        f"a worker refused a message ({one.code}) that claims to belong to workflow {one.claimed}: "
        f"paigeant dlq show {one.id}"
        for one in reversed(found)
    ]


def is_for_operator(one: Held) -> bool:
    """Whether a waiting message waits for an operator."""
    from paigeant.decisions.forward import OPERATOR

    return one.key.startswith(OPERATOR)


def operator_error(waiting: Sequence[Held]) -> str | None:
    """The error after which a step waits for an operator, or None if no step does."""
    for one in waiting:
        if is_for_operator(one):
            error = one.detail.get("error") if isinstance(one.detail, dict) else None
            return f"{error.get('type')}: {error.get('message')}" if isinstance(error, dict) else "unknown error"
    return None


def status_of(found: WorkflowRecord, waiting: Sequence[Held]) -> str:
    """The status for people."""
    if found.status is Status.RUNNING and operator_error(waiting) is not None:
        return WAITS
    return found.status.value


def next_command(found: WorkflowRecord, waiting: Sequence[Held]) -> str | None:
    """The command with which a person lets the workflow continue; None if it needs nobody."""
    id_ = found.correlation_id
    match found.status:
        case Status.PAUSED:
            return f"paigeant resume {id_}"
        case Status.FAILED:
            return f"paigeant retry {id_}"
        case Status.RUNNING if operator_error(waiting) is not None:
            return f"paigeant retry {id_}"
        case Status.RUNNING if waiting:
            return f"paigeant approve {id_} (or deny)"
        case _:
            return None

"""Which values of a message go aside before it is sent, and come back before its step runs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from paigeant.errors import ValueMissing
from paigeant.wire.arrivals import check
from paigeant.wire.canonical import digest_of
from paigeant.wire.claim_check import Holder, Kept, Parcel, as_json, opened
from paigeant.wire.limits import refuse_size
from paigeant.wire.log import LogEntry
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec, RoutingSlip

Change = Callable[[Holder, str], Any]
"""What is done to each part of a message that holds values; the text says of which it is one, for people."""


def stripped(message: PaigeantMessage) -> PaigeantMessage:
    """The message as it travels: without the values that are kept."""
    if not (message.received or _keeps_some(message.routing_slip)):
        return message
    message = _changed(message, lambda holder, _: _stripped(holder))
    return _with_received(message, lambda arrived, _: _without_value(arrived) if "kept" in arrived else arrived)


def _without_value(arrived: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in arrived.items() if name != "value"}


def _stripped(holder: Holder) -> Holder:
    there = holder.kept.keys() & holder.values().keys() if holder.kept else ()
    return holder.without({path: holder.kept[path] for path in there})


def put_aside(
    message: PaigeantMessage, at_least: int, at_most: int, *, is_signed: bool = False
) -> tuple[PaigeantMessage, list[Parcel]]:
    """The message without its values of at least so many bytes of JSON, and these.

    With ``is_signed`` the message says the digests of their canonical forms too, which a signed plan has.

    Raises:
        MessageTooLarge: one is larger than may be kept, which is named.
    """
    parcels: dict[str, Parcel] = {}

    def parcel(value: Any, what: str) -> Kept | None:
        packed = _parcel(message.correlation_id, value, what, at_least, at_most, is_signed=is_signed)
        return None if packed is None else parcels.setdefault(packed.kept.digest, packed).kept

    def of_holder(holder: Holder, what: str) -> Holder:
        found = {path: parcel(value, _named(what, path)) for path, value in holder.values().items()}
        return holder.without({path: kept for path, kept in found.items() if kept is not None})

    def of_arrived(arrived: dict[str, Any], key: str) -> dict[str, Any]:
        if "value" not in arrived or (kept := parcel(arrived["value"], f"what came for {key!r}")) is None:
            return arrived
        return _without_value(arrived) | {"kept": kept.to_dict()}

    message = _with_received(_changed(message, of_holder), of_arrived)
    return message, list(parcels.values())


def arrival_aside(
    workflow: str, key: str, arrived: dict[str, Any], at_least: int, at_most: int
) -> tuple[dict[str, Any], list[Parcel]]:
    """What came for a signed message of the workflow, without a value of ``at_least`` bytes; and the parcel of that.

    Raises:
        MessageTooLarge: the value is larger than may be kept.
    """
    packed = _parcel(workflow, arrived.get("value"), f"what came for {key!r}", at_least, at_most, is_signed=True)
    return (arrived, []) if packed is None else (_without_value(arrived) | {"kept": packed.kept.to_dict()}, [packed])


def _parcel(workflow: str, value: Any, what: str, at_least: int, at_most: int, *, is_signed: bool) -> Parcel | None:
    if len(data := as_json(value)) < at_least:
        return None
    refuse_size(len(data), what, at_most)
    return Parcel.of(workflow, data, digest_of(value) if is_signed else None)


def needed(message: PaigeantMessage) -> dict[Kept, str]:
    """What must be fetched before the current step runs, each with what it is, for people."""
    if not (message.received or _keeps_some(message.routing_slip)):
        return {}
    found: dict[Kept, str] = {}

    def of_holder(holder: Holder, what: str) -> Holder:
        found.update({kept: _named(what, path) for path, kept in holder.kept.items()})
        return holder

    def of_arrived(arrived: dict[str, Any], key: str) -> dict[str, Any]:
        if "kept" in arrived:
            found[Kept.from_dict(arrived["kept"])] = f"what came for {key!r}"
        return arrived

    _with_received(_of_current(message, of_holder), of_arrived)
    return found


def whole(message: PaigeantMessage, data: Mapping[Kept, bytes]) -> PaigeantMessage:
    """The message with what its current step needs.

    Raises:
        ValueMissing: something is not there, or is something else.
    """
    values = {kept: opened(kept, data.get(kept), what) for kept, what in needed(message).items()}
    message = _of_current(message, lambda holder, _: holder.with_values(_found(holder, values)))

    def of_arrived(arrived: dict[str, Any], key: str) -> dict[str, Any]:
        if "kept" not in arrived:
            return arrived
        arrived = arrived | {"value": values[Kept.from_dict(arrived["kept"])]}
        _check(key, arrived)
        return arrived

    return _with_received(message, of_arrived)


def _found(holder: Holder, values: Mapping[Kept, Any]) -> dict[str, Any]:
    return {path: values[kept] for path, kept in holder.kept.items()}


def _check(key: str, arrived: dict[str, Any]) -> None:
    try:
        check(key, arrived)
    except ValueError as error:
        raise ValueMissing(f"what came for {key!r} and was kept is not what the step waited for") from error


def named(message: PaigeantMessage) -> dict[str, Any]:
    """Every value of a message by what it is, for people."""
    found: dict[str, Any] = {}

    def of_holder(holder: Holder, what: str) -> Holder:
        found.update({_named(what, path): value for path, value in holder.values().items()})
        return holder

    def of_arrived(arrived: dict[str, Any], key: str) -> dict[str, Any]:
        found[f"what came for {key!r}"] = arrived
        return arrived

    _with_received(_changed(message, of_holder), of_arrived)
    outputs = {f"the output of {entry.name!r}": entry.output for entry in message.routing_slip.log}
    progress = {} if message.progress is None else {"the progress reported": message.progress}
    return found | outputs | progress


def _named(what: str, path: str) -> str:
    if path == "output":
        return what
    table, _, name = path.partition(".")
    return f"{what}{table}[{name!r}]" if name else f"{what}{table}"


# --- the parts of a message ------------------------------------------------------------------------------------------


def _keeps_some(slip: RoutingSlip) -> bool:
    """Whether any value is kept; most messages are done with here."""
    return bool(
        slip.kept
        or any(entry.kept or (entry.undo is not None and entry.undo.kept) for entry in slip.log)
        or any(map(_step_keeps_some, slip.itinerary))
    )


def _step_keeps_some(step: ActivitySpec) -> bool:
    return bool(step.kept or any(map(_keeps_some, step.branches)) or any(map(_step_keeps_some, step.otherwise)))


def _of_current(message: PaigeantMessage, change: Change) -> PaigeantMessage:
    """Change what the current step sees: its own values, the variables and the outputs before it."""
    slip = message.routing_slip
    current = change(slip.itinerary[0], f"{slip.itinerary[0].name}.")
    log = _each(slip.log, lambda entry: change(entry, f"the output of {entry.name!r}"))
    slip = _updated(slip, itinerary=_each(slip.itinerary, lambda one: current if one is slip.itinerary[0] else one))
    slip = change(_updated(slip, log=log), "")
    changed: PaigeantMessage = _updated(message, routing_slip=slip)
    return changed


def _changed(message: PaigeantMessage, change: Change) -> PaigeantMessage:
    """Change every part that holds values."""
    changed: PaigeantMessage = _updated(message, routing_slip=_of_slip(message.routing_slip, change))
    return changed


def _of_slip(slip: RoutingSlip, change: Change) -> RoutingSlip:
    slip = _updated(slip, itinerary=_each(slip.itinerary, partial(_of_step, change=change)))
    slip = _updated(slip, log=_each(slip.log, partial(_of_entry, change=change)))
    changed: RoutingSlip = change(slip, "")
    return changed


def _of_step(step: ActivitySpec, change: Change) -> ActivitySpec:
    step = _updated(step, branches=_each(step.branches, lambda slip: _of_slip(slip, change)))
    step = _updated(step, otherwise=_each(step.otherwise, partial(_of_step, change=change)))
    changed: ActivitySpec = change(step, f"{step.name}.")
    return changed


def _of_entry(entry: LogEntry, change: Change) -> LogEntry:
    if entry.undo is not None:
        entry = _updated(entry, undo=change(entry.undo, f"to take back {entry.name}: "))
    return change(entry, f"the output of {entry.name!r}") if entry.source is None else entry  # else it is in the store


def _each(parts: tuple[Any, ...], change: Callable[[Any], Any]) -> tuple[Any, ...]:
    changed = tuple(change(part) for part in parts)
    return changed if any(new is not old for new, old in zip(changed, parts, strict=True)) else parts


def _updated(model: Any, **changes: Any) -> Any:
    changed = {name: value for name, value in changes.items() if value is not getattr(model, name)}
    return model.model_copy(update=changed) if changed else model


def _with_received(message: PaigeantMessage, change: Callable[[Any, str], Any]) -> PaigeantMessage:
    """Change each thing that the current step has waited for."""
    if not message.received:
        return message
    received = {key: [change(one, key) for one in arrived] for key, arrived in message.received.items()}
    return message.model_copy(update={"received": received})

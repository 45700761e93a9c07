"""Describes an activity for other programs: name, queue, and the JSON Schemas of its arguments and output."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from paigeant.activity.activity import Activity
from paigeant.records.offer import Offer


def offer_of(activity: Activity[..., Any], queue: str, version: str = "") -> Offer:
    """Return the description with which a worker announces an activity that it serves from this queue."""
    return Offer(
        name=activity.name,
        queue=queue,
        description=activity.description,
        input=input_schema(activity),
        output=schema(activity.output_type),
        version=version,
        scopes=tuple(sorted(activity.scopes)),
    )


def input_schema(activity: Activity[..., Any]) -> dict[str, Any]:
    """Return the JSON Schema of the activity's arguments, as an object.

    An argument that pydantic cannot describe has an empty schema, which allows any value.
    """
    parameters = activity.signature.open
    try:
        described, shared = TypeAdapter.json_schemas(
            [(name, "validation", TypeAdapter(one.annotation)) for name, one in parameters.items()]
        )
        properties = {name: described[name, "validation"] for name in parameters}
    except PydanticUserError:
        properties, shared = {name: schema(one.annotation) for name, one in parameters.items()}, {}
    required = [name for name, one in parameters.items() if one.is_required]
    return {
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": activity.signature.takes_any,
        **({"$defs": shared["$defs"]} if "$defs" in shared else {}),
    }


def schema(annotation: Any) -> dict[str, Any]:
    """Return the JSON Schema of a type. If pydantic cannot describe it, the schema is empty and allows any value."""
    try:
        return TypeAdapter(annotation).json_schema(mode="serialization")
    except PydanticUserError:
        return {}

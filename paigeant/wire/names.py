"""Names and ids that people write: refused where they are made if people cannot read them as programs do.

Names in messages of earlier releases are read as they are: see :data:`paigeant.wire.model.Label`.
"""

from __future__ import annotations

from paigeant.errors import InvalidArguments
from paigeant.runtime.characters import not_for_names
from paigeant.wire.slip import ActivitySpec, RoutingSlip


def check_name(what: str, name: str | None) -> None:
    """Refuse a name or id with a character that nobody sees, or that changes the direction of text.

    ``what`` it is, for people. None and other values are not checked.

    Raises:
        InvalidArguments: it names the character.
    """
    if isinstance(name, str) and (found := not_for_names(name)) is not None:
        raise InvalidArguments(
            f"{what} is {name!a}: it contains {found}, and people would read another name than programs",
            hint="remove the character; letters, digits, spaces and punctuation of all scripts are allowed",
        )


def check_step(step: ActivitySpec) -> None:
    """Refuse a step with such a character in its name, its id or its queue. The steps inside it are not checked.

    Raises:
        InvalidArguments: it names the character.
    """
    check_name("the name of a step", step.name)
    check_name(f"the id of step {step.name!r}", step.id)
    check_name(f"the queue of step {step.name!r}", step.queue)


def check_log(slip: RoutingSlip) -> None:
    """Refuse a slip whose log has such a character in the name or the id of a step.

    Raises:
        InvalidArguments: it names the character.
    """
    for entry in slip.log:
        check_name("the name of a completed step", entry.name)
        check_name(f"the id of the completed step {entry.name!r}", entry.id)

"""Values that do not travel: what stands for them in a message (the *Claim Check* of Hohpe and Woolf).

A large value is kept where the services of a workflow reach it, under the digest of its JSON, and stays the same: what
is kept once is known by its digest in every message that follows.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Any, ClassVar, Protocol, Self

from pydantic import Field
from pydantic_core import to_json

from paigeant.errors import ValueMissing
from paigeant.wire.canonical import digest_of
from paigeant.wire.model import Label, WireModel
from paigeant.wire.reading import read


class Kept(WireModel):
    """Where a value is: kept for the workflow ``of``, under the SHA-256 of its JSON, which is ``size`` bytes long."""

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    of: Label
    form: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")] | None = None
    """In a signed message, the digest of the canonical form: the bytes that are kept say more, such as 1.0 for 1."""

    @property
    def planned(self) -> str:
        """The digest as plans have it; see :func:`~paigeant.wire.canonical.digest`."""
        return self.form or urlsafe_b64encode(bytes.fromhex(self.digest))[:-1].decode()


@dataclass(frozen=True, slots=True)
class Parcel:
    """A value to be kept, as JSON, and where."""

    kept: Kept
    data: bytes = field(repr=False)

    @classmethod
    def of(cls, workflow: str, data: bytes, form: str | None = None) -> Parcel:
        """The parcel of a value that is kept for a workflow; ``form`` is the digest of its canonical form."""
        return cls(Kept(digest=sha256(data).hexdigest(), size=len(data), of=workflow, form=form), data)


class Keeper(Protocol):
    """Who keeps values: a store, or a directory or object store.

    Raises everywhere:
        StoreError: it cannot be reached; asking again may help.
    """

    async def keep(self, parcels: Sequence[Parcel]) -> None:
        """Keep these values. One that is kept already stays as it is."""

    async def fetch(self, kept: Collection[Kept]) -> Mapping[Kept, bytes]:
        """These values, as far as they are there."""

    async def drop(self, workflows: Collection[str]) -> int:
        """Keep nothing for these workflows any more; how many values that was."""


def as_json(value: Any) -> bytes:
    """The JSON of a value of JSON types."""
    return to_json(value, inf_nan_mode="strings")


def opened(kept: Kept, data: bytes | None, what: str) -> Any:
    """The value, read from what its keeper has.

    Raises:
        ValueMissing: there is nothing, or something else than was kept.
    """
    if data is None:
        raise ValueMissing(
            f"{what} ({kept.size:,} bytes) was kept aside and is not there any more",
            hint="was it deleted, or has this worker another store or PAIGEANT_CLAIM_CHECK than the others?",
        )
    if sha256(data).hexdigest() != kept.digest:
        raise ValueMissing(f"{what} is not what was kept aside: its SHA-256 is not {kept.digest[:12]}…")
    try:
        value = read(data)
    except ValueError as error:
        raise ValueMissing(f"{what} was kept aside and is no JSON that every reader reads alike: {error}") from None
    if kept.form is not None and digest_of(value) != kept.form:
        raise ValueMissing(f"{what} is not what was signed: the digest of its canonical form is not {kept.form[:12]}…")
    return value


class Holder(WireModel):
    """A part of a message some of whose values may be kept aside: ``kept`` says which, by field and name.

    ``FIELDS`` are the fields that are one value, ``TABLES`` those that are values by name. In a message as it travels a
    value is there or is kept; in one that is run, it is there as well.
    """

    FIELDS: ClassVar[tuple[str, ...]] = ()
    TABLES: ClassVar[tuple[str, ...]] = ()

    kept: dict[str, Kept] = Field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """The values that are there: by field, or by field and name."""
        found = {name: value for name in self.FIELDS if (value := getattr(self, name)) is not None}
        for table in self.TABLES:
            found |= {f"{table}.{name}": value for name, value in getattr(self, table).items()}
        return found

    def without(self, kept: Mapping[str, Kept]) -> Self:
        """The same without these values, which are kept."""
        if not kept:
            return self
        changes: dict[str, Any] = {name: None for name in self.FIELDS if name in kept}
        for table in self.TABLES:
            values = getattr(self, table)
            if any(f"{table}.{name}" in kept for name in values):
                changes[table] = {name: value for name, value in values.items() if f"{table}.{name}" not in kept}
        return self.model_copy(update={**changes, "kept": {**self.kept, **kept}})

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """The same with values that are kept; that they are is still known."""
        if not values:
            return self
        changes: dict[str, Any] = {name: values[name] for name in self.FIELDS if name in values}
        for path, value in values.items():
            table, _, name = path.partition(".")
            if table in self.TABLES:
                changes[table] = {**changes.get(table, getattr(self, table)), name: value}
        return self.model_copy(update=changes)

    def changed(self, table: str, values: Mapping[str, Any], gone: Collection[str] = ()) -> Self:
        """The same with these values in a table, whether others of their names were there or kept, and without some."""
        names = {*values, *gone}
        rest = {name: value for name, value in getattr(self, table).items() if name not in names}
        kept = {path: one for path, one in self.kept.items() if path not in {f"{table}.{name}" for name in names}}
        return self.model_copy(update={table: {**rest, **values}, "kept": kept})

    def with_field(self, name: str, value: Any) -> Self:
        """The same with another value of a field, whether one was there or kept."""
        kept = {path: one for path, one in self.kept.items() if path != name}
        return self.model_copy(update={name: value, "kept": kept})

    def names_in(self, table: str) -> list[str]:
        """The names of a table's values, those that are kept included."""
        kept = [path.partition(".")[2] for path in self.kept if path.startswith(f"{table}.")]
        return [*dict.fromkeys([*getattr(self, table), *kept])]

    def kept_of(self, table: str, values: Mapping[str, Any]) -> dict[str, Kept]:
        """What is kept, with these values in the place of a table: of that, only what is the same value still."""
        mine = getattr(self, table)
        return {
            path: kept
            for path, kept in self.kept.items()
            if not path.startswith(f"{table}.") or _is_same(path.partition(".")[2], mine, values)
        }


def _is_same(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """The same object: nobody has put another one in its place. What is not there before was never looked at."""
    return name not in before or (name in after and after[name] is before[name])

"""A store is its roles, and each role of the SQL store is a class that depends on nothing but the shared access."""

from __future__ import annotations

import inspect
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from paigeant import store as contracts
from paigeant.decisions.limit import Limit, Lock
from paigeant.store import Store
from paigeant.store.shared import Shared
from paigeant.stores.access import Access, Role
from paigeant.stores.roles.locks import SqlLocks
from paigeant.stores.sql import SqlStore

ROLES = [kind for kind in SqlStore.__bases__ if kind is not Store]
CONTRACTS = [kind for kind in Store.__bases__ if Shared in kind.__mro__]


def own(kind: type[Any]) -> set[str]:
    """The names that a class defines itself."""
    return {name for name in vars(kind) if not name.startswith("__") and name not in ("_abc_impl", "_is_protocol")}


def methods(kind: type[Any]) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


def test_no_two_roles_define_the_same_name() -> None:
    """The SQL store is all of its roles in one class: a name in two of them would hide one of the two."""
    bookkeeping = own(type("Empty", (Role,), {}))
    shared = {
        (one.__name__, other.__name__): both
        for one, other in combinations(ROLES, 2)
        if (both := (own(one) & own(other)) - bookkeeping)
    }
    assert shared == {}


def test_a_store_is_its_roles_and_nothing_else() -> None:
    """Each role of the contract has one class in the SQL store, and all of them are exported."""
    assert methods(Store) == set().union(*map(methods, CONTRACTS))
    assert [[one for one in kind.__mro__ if one in CONTRACTS] for kind in ROLES] == [[one] for one in CONTRACTS]
    assert {kind.__name__ for kind in CONTRACTS} == {*contracts.__all__} - {"SagaRepository", "Shared", "Store"}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ROLES, ids=lambda kind: kind.__name__)
async def test_a_role_can_be_used_alone(kind: type[Role]) -> None:
    """It implements its contract over an access, without the other roles."""
    role = kind(Access("sqlite://"))
    await role.connect()
    assert role.clock.now() > 0
    await role.close()


@pytest.mark.anyio
async def test_roles_over_one_access_see_the_same_rows() -> None:
    access = Access("sqlite://")
    first, second = SqlLocks(access), SqlLocks(access)
    lock = Lock(key="lock:a", holder="m", limit=Limit(), worker="w")
    assert await first.take_locks([lock], 60) is None
    assert await second.take_locks([replace(lock, holder="n")], 60) == "lock:a"
    await access.close()

"""The signed statements of workflows in an SQL store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from sqlalchemy import Column, Connection, select

from paigeant.database.among import one_of
from paigeant.records.trust import StatementRecord
from paigeant.store.statements import Statements
from paigeant.stores import rows
from paigeant.stores.access import PATIENCE, Role
from paigeant.stores.tables import statements


class SqlStatements(Role, Statements):
    """Statements as rows."""

    async def statements(self, correlation_ids: Collection[str]) -> Mapping[str, Sequence[StatementRecord]]:
        return await self.access.read(lambda reader: _found(reader, statements.c.correlation_id, correlation_ids))

    async def proofs(self, message_ids: Collection[str]) -> Mapping[str, Sequence[StatementRecord]]:
        return await self.access.read(lambda reader: _found(reader, statements.c.message_id, message_ids))

    def evidence(self, message_id: str) -> Sequence[StatementRecord]:
        return self._at_once(statements.c.message_id, message_id)

    def chain(self, correlation_id: str) -> Sequence[StatementRecord]:
        return self._at_once(statements.c.correlation_id, correlation_id)

    def _at_once(self, column: Column[str], value: str) -> Sequence[StatementRecord]:
        access = self.access
        read = partial(_found, access.reader, column, [value])
        return access.thread.wait_for(lambda: access.guarded(read), PATIENCE)[value]


def _found(reader: Connection, column: Column[str], values: Collection[str]) -> Mapping[str, Sequence[StatementRecord]]:
    found = defaultdict[str, list[StatementRecord]](list)
    if not values:
        return found
    query = select(statements, column.label("of")).where(one_of(column, values)).order_by(statements.c.at)
    for row in reader.execute(query):
        message = None if row.message_id is None else rows.text(row.message_id)
        record = StatementRecord(rows.text(row.correlation_id), message, rows.text(row.token), row.at)
        found[rows.text(row.of)].append(record)
    return found

"""The signed statements of workflows in an SQL store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Column, Connection, select

from paigeant.database.among import one_of
from paigeant.records.trust import StatementRecord
from paigeant.store.statements import Statements
from paigeant.stores import rows
from paigeant.stores.access import Role
from paigeant.stores.tables import statements


class SqlStatements(Role, Statements):
    """Statements as rows."""

    async def statements(self, correlation_ids: Collection[str]) -> Mapping[str, Sequence[StatementRecord]]:
        return await self.access.read(lambda reader: _found(reader, statements.c.correlation_id, correlation_ids))

    async def proofs(self, message_ids: Collection[str]) -> Mapping[str, Sequence[StatementRecord]]:
        return await self.access.read(lambda reader: _found(reader, statements.c.message_id, message_ids))


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

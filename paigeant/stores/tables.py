"""The store's tables as SQLAlchemy sees them; ``migrations/`` creates them."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import BigInteger, Column, Double, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.types import TypeDecorator


class JsonText(TypeDecorator[Any]):
    """JSON in a text column, the same on every database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: object) -> str | None:
        return None if value is None else to_json(value, inf_nan_mode="strings").decode()

    def process_result_value(self, value: Any, dialect: object) -> Any:
        """Return None for a text that is no JSON, because another program wrote it."""
        try:
            return None if value is None else from_json(value)
        except (ValueError, TypeError):
            return None


metadata = MetaData()
_SERIAL = BigInteger().with_variant(Integer, "sqlite")

workflows = Table(
    "paigeant_workflow",
    metadata,
    Column("correlation_id", Text, primary_key=True),
    Column("name", Text),
    Column("app", Text),
    Column("status", Text),
    Column("created_at", Double),
    Column("updated_at", Double),
    Column("finished_at", Double),
    Column("itinerary", JsonText),
    Column("variables", JsonText),
    Column("output", JsonText),
    Column("error", JsonText),
    Column("parent", Text),
    Column("cancel", JsonText),
    Column("used", JsonText),
    Column("slip", JsonText),
    Column("forked_from", Text),
    Column("user_claimed", JsonText),
    Column("introduced", Integer),
)
steps = Table(
    "paigeant_step",
    metadata,
    Column("message_id", Text, primary_key=True),
    Column("correlation_id", Text),
    Column("step_id", Text),
    Column("activity", Text),
    Column("attempt", Integer),
    Column("deliveries", Integer),
    Column("status", Text),
    Column("worker", Text),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("output", JsonText),
    Column("error", JsonText),
    Column("heading", Text),
    Column("variables", JsonText),
    Column("ahead", JsonText),
    Column("changes", JsonText),
)
events = Table(
    "paigeant_event",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("correlation_id", Text),
    Column("type", Text),
    Column("at", Double),
    Column("data", JsonText),
    Column("expires_at", Double),
)
outbox = Table(
    "paigeant_outbox",
    metadata,
    Column("message_id", Text, primary_key=True),
    Column("cause_id", Text),
    Column("queue", Text),
    Column("body", LargeBinary),
    Column("headers", JsonText),
    Column("priority", Integer),
    Column("due_at", Double),
    Column("resent", Integer),
    Column("resend_at", Double),
    Column("prefix", Text),
    Column("broker", Text),
)
brokers = Table(
    "paigeant_broker",
    metadata,
    Column("broker", Text, primary_key=True),
    Column("prefix", Text, primary_key=True),
    Column("address", Text),
    Column("seen_at", Double),
)
holding = Table(
    "paigeant_holding",
    metadata,
    Column("message_id", Text, primary_key=True),
    Column("worker", Text),
)
waits = Table(
    "paigeant_wait",
    metadata,
    Column("wait_id", Text, primary_key=True),
    Column("correlation_id", Text),
    Column("step_id", Text),
    Column("activity", Text),
    Column("key", Text),
    Column("due_at", Double),
    Column("detail", JsonText),
    Column("queue", Text),
    Column("body", LargeBinary),
    Column("priority", Integer),
    Column("since", Double),
    Column("fired_at", Double),
    Column("value", JsonText),
    Column("proof", Text),
    Column("prefix", Text),
    Column("broker", Text),
)
signals = Table(
    "paigeant_signal",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("correlation_id", Text),
    Column("key", Text),
    Column("value", JsonText),
    Column("by", Text),
    Column("at", Double),
    Column("proof", Text),
)
joins = Table(
    "paigeant_join",
    metadata,
    Column("correlation_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("total", Integer),
    Column("needed", Integer),
    Column("completed", Integer),
    Column("failed", Integer),
)
branches = Table(
    "paigeant_branch",
    metadata,
    Column("correlation_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("workflow", Text),
    Column("status", Text),
    Column("output", JsonText),
    Column("error", JsonText),
    Column("standing", JsonText),
    Column("used", JsonText),
)
values = Table(
    "paigeant_value",
    metadata,
    Column("correlation_id", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("data", LargeBinary),
    Column("at", Double),
)
keys = Table(
    "paigeant_key",
    metadata,
    Column("correlation_id", Text, primary_key=True),
    Column("key", Text),
    Column("digest", Text),
    Column("sending_until", Double),
)
locks = Table(
    "paigeant_lock",
    metadata,
    Column("key", Text, primary_key=True),
    Column("holder", Text, primary_key=True),
    Column("worker", Text),
    Column("until", Double),
    Column("places", Integer),
)
journals = Table(
    "paigeant_journal",
    metadata,
    Column("correlation_id", Text, primary_key=True),
    Column("step_id", Text, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("holder", Text),
    Column("attempt", Integer),
    Column("resumes", Integer),
    Column("deliveries", Integer),
    Column("edition", Integer),
)
units = Table(
    "paigeant_unit",
    metadata,
    Column("correlation_id", Text, primary_key=True),
    Column("step_id", Text, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("edition", Integer, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("name", Text),
    Column("digest", Text),
    Column("value", JsonText),
    Column("usage", JsonText),
    Column("worker", Text),
    Column("at", Double),
    Column("proof", Text),
)
dead_letters = Table(
    "paigeant_dead_letter",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("correlation_id", Text),
    Column("message_id", Text),
    Column("queue", Text),
    Column("reason", Text),
    Column("body", LargeBinary),
    Column("worker", Text),
    Column("deliveries", Integer),
    Column("at", Double),
    Column("kind", Text),
    Column("activity", Text),
    Column("step_id", Text),
    Column("heading", Text),
    Column("error", JsonText),
    Column("error_type", Text),
    Column("claimed", Text),
    Column("code", Text),
)
statements = Table(
    "paigeant_statement",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("correlation_id", Text),
    Column("message_id", Text),
    Column("token", Text),
    Column("at", Double),
)
workers = Table(
    "paigeant_worker",
    metadata,
    Column("id", Text, primary_key=True),
    Column("app", Text),
    Column("host", Text),
    Column("pid", Integer),
    Column("activities", JsonText),
    Column("queues", JsonText),
    Column("concurrency", Integer),
    Column("started_at", Double),
    Column("seen_at", Double),
    Column("code", Text),
    Column("offers", JsonText),
    Column("says_what_it_holds", Integer),
    Column("policy", Text),
)
schedules = Table(
    "paigeant_schedule",
    metadata,
    Column("app", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("definition", JsonText),
    Column("next_at", Double),
    Column("taken_at", Double),
    Column("paused", Integer),
    Column("orphaned", Integer),
    Column("last_at", Double),
    Column("last_id", Text),
    Column("error", Text),
)

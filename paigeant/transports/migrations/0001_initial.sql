-- The body is last: SQLite reads the columns before it without walking through a large body's pages.
CREATE TABLE paigeant_message (
    id {serial},
    queue TEXT NOT NULL,
    message_id TEXT,
    priority INTEGER NOT NULL DEFAULT 0,
    enqueued_at {double} NOT NULL,
    available_at {double},
    expires_at {double},
    owner TEXT,
    token BIGINT NOT NULL DEFAULT 0,
    deliveries INTEGER NOT NULL DEFAULT 0,
    headers TEXT NOT NULL DEFAULT '{}',
    body {bytes} NOT NULL,
    UNIQUE (message_id, queue)
);
CREATE INDEX paigeant_message_ready ON paigeant_message (queue, priority DESC, id)
    WHERE owner IS NULL AND available_at IS NULL;
CREATE INDEX paigeant_message_delayed ON paigeant_message (available_at) WHERE available_at IS NOT NULL;
CREATE INDEX paigeant_message_expiring ON paigeant_message (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX paigeant_message_owned ON paigeant_message (owner) WHERE owner IS NOT NULL;
CREATE TABLE paigeant_holder (
    id TEXT PRIMARY KEY,
    expires_at {double} NOT NULL
);
CREATE TABLE paigeant_queue (
    name TEXT PRIMARY KEY,
    arguments TEXT NOT NULL DEFAULT '{}'
);
CREATE TABLE paigeant_exchange (
    name TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    durable INTEGER NOT NULL,
    auto_delete INTEGER NOT NULL,
    arguments TEXT NOT NULL DEFAULT '{}'
);
CREATE TABLE paigeant_binding (
    exchange TEXT NOT NULL,
    routing_key TEXT NOT NULL,
    queue TEXT NOT NULL,
    PRIMARY KEY (exchange, routing_key, queue)
);

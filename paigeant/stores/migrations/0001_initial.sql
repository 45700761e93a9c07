CREATE TABLE paigeant_workflow (
    correlation_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    app TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at {double} NOT NULL,
    updated_at {double} NOT NULL,
    finished_at {double},
    itinerary TEXT NOT NULL,
    variables TEXT NOT NULL,
    output TEXT,
    error TEXT
);
CREATE INDEX paigeant_workflow_by_status ON paigeant_workflow (status, created_at);
CREATE INDEX paigeant_workflow_by_time ON paigeant_workflow (created_at);
CREATE TABLE paigeant_step (
    message_id TEXT PRIMARY KEY,
    correlation_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    activity TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    status TEXT NOT NULL,
    worker TEXT NOT NULL,
    started_at {double} NOT NULL,
    finished_at {double},
    output TEXT,
    error TEXT
);
CREATE INDEX paigeant_step_by_workflow ON paigeant_step (correlation_id, started_at);
CREATE TABLE paigeant_event (
    id {serial},
    correlation_id TEXT NOT NULL,
    type TEXT NOT NULL,
    at {double} NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX paigeant_event_by_workflow ON paigeant_event (correlation_id, id);
CREATE TABLE paigeant_outbox (
    message_id TEXT PRIMARY KEY,
    cause_id TEXT,
    queue TEXT NOT NULL,
    body {bytes} NOT NULL,
    headers TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due_at {double} NOT NULL
);
CREATE INDEX paigeant_outbox_by_cause ON paigeant_outbox (cause_id);
CREATE TABLE paigeant_dead_letter (
    id {serial},
    correlation_id TEXT NOT NULL,
    message_id TEXT,
    queue TEXT NOT NULL,
    reason TEXT NOT NULL,
    body {bytes} NOT NULL,
    worker TEXT NOT NULL,
    deliveries INTEGER NOT NULL,
    at {double} NOT NULL
);
CREATE TABLE paigeant_worker (
    id TEXT PRIMARY KEY,
    app TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    activities TEXT NOT NULL,
    queues TEXT NOT NULL,
    concurrency INTEGER NOT NULL,
    started_at {double} NOT NULL,
    seen_at {double} NOT NULL
);

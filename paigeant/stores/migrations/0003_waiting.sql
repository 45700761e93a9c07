ALTER TABLE paigeant_workflow ADD COLUMN parent TEXT;
CREATE INDEX paigeant_workflow_by_parent ON paigeant_workflow (parent);
CREATE TABLE paigeant_wait (
    wait_id TEXT PRIMARY KEY,
    correlation_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    activity TEXT NOT NULL,
    key TEXT NOT NULL,
    due_at {double},
    detail TEXT,
    queue TEXT NOT NULL,
    body {bytes} NOT NULL,
    priority INTEGER NOT NULL,
    since {double} NOT NULL,
    fired_at {double},
    value TEXT
);
CREATE INDEX paigeant_wait_by_key ON paigeant_wait (correlation_id, key);
CREATE INDEX paigeant_wait_by_time ON paigeant_wait (due_at);
CREATE INDEX paigeant_wait_by_firing ON paigeant_wait (fired_at);
CREATE TABLE paigeant_signal (
    id {serial},
    correlation_id TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT,
    by TEXT,
    at {double} NOT NULL
);
CREATE INDEX paigeant_signal_by_key ON paigeant_signal (correlation_id, key);

CREATE TABLE paigeant_journal (
    correlation_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    holder TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    resumes INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    edition INTEGER NOT NULL,
    PRIMARY KEY (correlation_id, step_id, epoch)
);
CREATE TABLE paigeant_unit (
    correlation_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    edition INTEGER NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    value TEXT,
    usage TEXT,
    worker TEXT NOT NULL,
    at {double} NOT NULL,
    PRIMARY KEY (correlation_id, step_id, epoch, edition, key)
);

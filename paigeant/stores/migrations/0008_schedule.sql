CREATE TABLE paigeant_schedule (
    app TEXT NOT NULL,
    name TEXT NOT NULL,
    definition TEXT NOT NULL,
    next_at {double},
    taken_at {double},
    paused INTEGER NOT NULL,
    orphaned INTEGER NOT NULL,
    last_at {double},
    last_id TEXT,
    error TEXT,
    PRIMARY KEY (app, name)
);

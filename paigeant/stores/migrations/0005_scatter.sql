CREATE TABLE paigeant_join (
    correlation_id TEXT NOT NULL,
    key TEXT NOT NULL,
    total INTEGER NOT NULL,
    needed INTEGER,
    completed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    PRIMARY KEY (correlation_id, key)
);
CREATE TABLE paigeant_branch (
    correlation_id TEXT NOT NULL,
    key TEXT NOT NULL,
    place INTEGER NOT NULL,
    workflow TEXT NOT NULL,
    status TEXT NOT NULL,
    output TEXT,
    error TEXT,
    standing TEXT,
    PRIMARY KEY (correlation_id, key, place)
);

CREATE TABLE paigeant_key (
    correlation_id TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    digest TEXT NOT NULL,
    sending_until {double}
);

CREATE TABLE paigeant_lock (
    key TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    worker TEXT,
    until {double} NOT NULL
);
CREATE INDEX paigeant_wait_in_turn ON paigeant_wait (key, since);

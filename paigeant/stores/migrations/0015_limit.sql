ALTER TABLE paigeant_lock RENAME TO paigeant_lock_of_one;
CREATE TABLE paigeant_lock (
    key TEXT NOT NULL,
    holder TEXT NOT NULL,
    worker TEXT,
    until {double} NOT NULL,
    places INTEGER NOT NULL,
    PRIMARY KEY (key, holder)
);
INSERT INTO paigeant_lock (key, holder, worker, until, places) SELECT key, holder, worker, until, 1 FROM paigeant_lock_of_one;
DROP TABLE paigeant_lock_of_one;
CREATE INDEX paigeant_lock_by_holder ON paigeant_lock (holder, until);

-- readable by: 18
ALTER TABLE paigeant_outbox ADD COLUMN resent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE paigeant_outbox ADD COLUMN resend_at {double};
CREATE INDEX paigeant_outbox_by_time ON paigeant_outbox (queue, due_at);
CREATE TABLE paigeant_holding (
    message_id TEXT PRIMARY KEY,
    worker TEXT NOT NULL
);
CREATE INDEX paigeant_holding_by_worker ON paigeant_holding (worker);
ALTER TABLE paigeant_worker ADD COLUMN says_what_it_holds INTEGER NOT NULL DEFAULT 0;

-- readable by: 1
-- Due and expired messages are found queue by queue, so that a backlog in one queue costs the others nothing.
CREATE INDEX paigeant_message_due ON paigeant_message (queue, available_at)
    WHERE owner IS NULL AND available_at IS NOT NULL;
CREATE INDEX paigeant_message_overdue ON paigeant_message (queue, expires_at)
    WHERE owner IS NULL AND expires_at IS NOT NULL;
CREATE TABLE paigeant_note (
    id TEXT PRIMARY KEY,
    expires_at {double} NOT NULL
);
CREATE INDEX paigeant_note_expiring ON paigeant_note (expires_at);
-- Every claim and every renewal leaves a dead version of its row: room for the next version, and frequent vacuuming.
{postgresql} ALTER TABLE paigeant_message SET (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0.01,
    autovacuum_analyze_scale_factor = 0.02,
    autovacuum_vacuum_cost_delay = 0
);
{postgresql} ALTER TABLE paigeant_holder SET (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 200
)

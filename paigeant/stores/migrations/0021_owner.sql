-- readable by: 18
ALTER TABLE paigeant_wait ADD COLUMN prefix TEXT;
ALTER TABLE paigeant_wait ADD COLUMN broker TEXT;
ALTER TABLE paigeant_outbox ADD COLUMN prefix TEXT;
ALTER TABLE paigeant_outbox ADD COLUMN broker TEXT;
CREATE TABLE paigeant_broker (
    broker TEXT NOT NULL,
    prefix TEXT NOT NULL,
    address TEXT NOT NULL,
    seen_at {double} NOT NULL,
    PRIMARY KEY (broker, prefix)
);
CREATE INDEX paigeant_branch_by_workflow ON paigeant_branch (workflow);

-- readable by: 18
CREATE INDEX paigeant_outbox_by_queue ON paigeant_outbox (queue, due_at);
CREATE INDEX paigeant_wait_by_age ON paigeant_wait (since) WHERE fired_at IS NULL;
CREATE INDEX paigeant_wait_by_kind ON paigeant_wait (key {bytewise}) WHERE fired_at IS NULL;
CREATE INDEX paigeant_lock_by_end ON paigeant_lock (until);
DROP INDEX paigeant_workflow_by_parent;
CREATE INDEX paigeant_workflow_by_parent ON paigeant_workflow (parent) WHERE parent IS NOT NULL;

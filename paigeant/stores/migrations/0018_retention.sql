CREATE INDEX paigeant_workflow_by_origin ON paigeant_workflow (forked_from) WHERE forked_from IS NOT NULL;
CREATE INDEX paigeant_workflow_by_end ON paigeant_workflow (finished_at, correlation_id)
    WHERE parent IS NULL AND forked_from IS NULL;

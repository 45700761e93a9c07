-- Events that are seen while a step runs, such as tokens, are not kept for ever. NULL: this one is.
ALTER TABLE paigeant_event ADD COLUMN expires_at {double};
CREATE INDEX paigeant_event_expiring ON paigeant_event (expires_at) WHERE expires_at IS NOT NULL;

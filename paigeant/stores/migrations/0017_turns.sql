DROP INDEX paigeant_wait_in_turn;
CREATE INDEX paigeant_wait_in_turn ON paigeant_wait (key, since, wait_id) WHERE fired_at IS NULL;
DROP INDEX paigeant_wait_by_firing;
CREATE INDEX paigeant_wait_by_firing ON paigeant_wait (fired_at) WHERE fired_at IS NOT NULL;

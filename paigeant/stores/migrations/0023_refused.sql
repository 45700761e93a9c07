-- readable by: 18
ALTER TABLE paigeant_dead_letter ADD COLUMN claimed TEXT;
ALTER TABLE paigeant_dead_letter ADD COLUMN code TEXT;
ALTER TABLE paigeant_workflow ADD COLUMN introduced INTEGER;
CREATE INDEX paigeant_dead_letter_by_claimed ON paigeant_dead_letter (claimed);

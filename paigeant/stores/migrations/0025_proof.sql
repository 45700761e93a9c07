-- readable by: 18
ALTER TABLE paigeant_signal ADD COLUMN proof TEXT;
ALTER TABLE paigeant_wait ADD COLUMN proof TEXT;

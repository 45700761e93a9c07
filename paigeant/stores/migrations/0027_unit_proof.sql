-- readable by: 18
ALTER TABLE paigeant_unit ADD COLUMN proof TEXT;

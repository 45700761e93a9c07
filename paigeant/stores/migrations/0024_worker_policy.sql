-- readable by: 18
ALTER TABLE paigeant_worker ADD COLUMN policy TEXT NOT NULL DEFAULT '';

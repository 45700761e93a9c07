ALTER TABLE paigeant_worker ADD COLUMN offers TEXT NOT NULL DEFAULT '[]';

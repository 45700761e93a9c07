ALTER TABLE paigeant_step ADD COLUMN heading TEXT NOT NULL DEFAULT 'forward';

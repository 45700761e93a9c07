ALTER TABLE paigeant_workflow ADD COLUMN cancel TEXT;

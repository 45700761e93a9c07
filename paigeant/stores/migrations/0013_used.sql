ALTER TABLE paigeant_branch ADD COLUMN used TEXT;
ALTER TABLE paigeant_workflow ADD COLUMN used TEXT;

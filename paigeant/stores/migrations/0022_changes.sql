-- readable by: 18
ALTER TABLE paigeant_step ADD COLUMN changes TEXT;
ALTER TABLE paigeant_workflow ADD COLUMN user_claimed TEXT;

-- readable by: 18
CREATE TABLE paigeant_statement (
    digest TEXT PRIMARY KEY,
    correlation_id TEXT NOT NULL,
    message_id TEXT,
    token TEXT NOT NULL,
    at {double} NOT NULL
);
CREATE INDEX paigeant_statement_by_workflow ON paigeant_statement (correlation_id);
CREATE INDEX paigeant_statement_by_message ON paigeant_statement (message_id);

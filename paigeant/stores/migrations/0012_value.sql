CREATE TABLE paigeant_value (
    correlation_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    data {bytes} NOT NULL,
    at {double} NOT NULL,
    PRIMARY KEY (correlation_id, digest)
);

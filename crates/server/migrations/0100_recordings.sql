-- Recordings of calls: where each is, and how far it has come.
CREATE TABLE recordings (
    execution_id TEXT NOT NULL,
    -- call or transfer.
    kind TEXT NOT NULL,
    account_id TEXT NOT NULL,
    -- The node that writes it, and whose disk it is on until it is stored elsewhere.
    node TEXT NOT NULL,
    -- recording, waiting (for its upload), kept (on disk) or stored (in the object store).
    state TEXT NOT NULL,
    format TEXT NOT NULL,
    -- Below the folder of recordings, and below the prefix in the bucket.
    place TEXT NOT NULL,
    -- Its key, sealed; nothing if it is not encrypted.
    data_key TEXT,
    bytes BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    last_error TEXT,
    PRIMARY KEY (execution_id, kind)
);
CREATE INDEX recordings_due ON recordings (node, state, next_at);
CREATE INDEX recordings_age ON recordings (created_at);
CREATE INDEX recordings_account ON recordings (account_id, created_at);

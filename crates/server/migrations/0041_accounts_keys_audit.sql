-- Accounts have a name and may stand under another; keys may expire and be bound to addresses.
ALTER TABLE accounts ADD COLUMN parent_id TEXT;
ALTER TABLE accounts ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE accounts ADD COLUMN email TEXT;
-- JSON, the owner's own.
ALTER TABLE accounts ADD COLUMN metadata TEXT;
ALTER TABLE accounts ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;
ALTER TABLE accounts ADD COLUMN deleted_at BIGINT;
CREATE INDEX accounts_parent ON accounts (parent_id, id);

ALTER TABLE api_keys ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN expires_at BIGINT;
-- Ranges, blank-separated; empty means anywhere.
ALTER TABLE api_keys ADD COLUMN allowed_addresses TEXT NOT NULL DEFAULT '';

-- Answers to requests that carried an Idempotency-Key.
CREATE TABLE idempotency_keys (
    account_id TEXT NOT NULL,
    route TEXT NOT NULL,
    name TEXT NOT NULL,
    -- The API key that asked, and what it asked.
    api_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- Which open store works on it, while there is no answer.
    origin TEXT NOT NULL,
    -- Sealed, for an answer may hold a new key; NULL while the request is under way.
    answer TEXT,
    PRIMARY KEY (account_id, route, name)
);
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);

-- Who changed what. Secrets are masked before they come here.
CREATE TABLE audit_log (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    at BIGINT NOT NULL,
    actor_account TEXT NOT NULL,
    -- Prefix of the key, or cli.
    actor_key TEXT NOT NULL,
    address TEXT,
    request_id TEXT NOT NULL,
    method TEXT NOT NULL,
    route TEXT NOT NULL,
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    state_before TEXT,
    state_after TEXT
);
CREATE INDEX audit_log_account ON audit_log (account_id, id);
CREATE INDEX audit_log_at ON audit_log (at);

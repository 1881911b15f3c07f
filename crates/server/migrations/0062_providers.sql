-- Secrets that an account keeps for its agents' services, by name.
CREATE TABLE providers (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Sealed.
    value TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX providers_name ON providers (account_id, name);

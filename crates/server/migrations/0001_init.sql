-- One set of statements for SQLite and PostgreSQL: TEXT and BIGINT alone. Times are milliseconds since 1970
-- UTC, switches are 0 and 1. Every row knows its account.

CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE nodes (
    name TEXT NOT NULL PRIMARY KEY,
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);

CREATE TABLE accounts (
    id TEXT NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL
);

CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    prefix TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);
CREATE INDEX api_keys_account ON api_keys (account_id, created_at);

CREATE TABLE trunks (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    name TEXT NOT NULL,
    provider TEXT NOT NULL,
    description TEXT,
    auth_type TEXT NOT NULL,
    auth_username TEXT,
    -- Sealed.
    auth_password TEXT,
    codecs_allow TEXT NOT NULL,
    codecs_disallow TEXT NOT NULL,
    transport TEXT NOT NULL,
    direct_media BIGINT NOT NULL,
    rtp_symmetric BIGINT NOT NULL,
    force_rport BIGINT NOT NULL,
    ice_support BIGINT NOT NULL,
    media_encryption TEXT NOT NULL,
    media_encryption_optimistic BIGINT NOT NULL,
    qualify_frequency BIGINT NOT NULL,
    inbound_enabled BIGINT NOT NULL,
    outbound_leading_plus BIGINT NOT NULL,
    is_active BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (account_id, name)
);

CREATE TABLE gateways (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    trunk_id TEXT NOT NULL REFERENCES trunks (id),
    position BIGINT NOT NULL,
    address TEXT NOT NULL,
    port BIGINT NOT NULL,
    priority BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX gateways_trunk ON gateways (trunk_id, position);

CREATE TABLE ip_identifiers (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    trunk_id TEXT NOT NULL REFERENCES trunks (id),
    position BIGINT NOT NULL,
    -- As the client wrote it.
    ip_address TEXT NOT NULL
);
CREATE INDEX ip_identifiers_trunk ON ip_identifiers (trunk_id, position);

-- Numbers outlive their trunk as deleted rows, so trunk_id is no foreign key.
CREATE TABLE numbers (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    trunk_id TEXT NOT NULL,
    -- As the client wrote it, and as an INVITE is matched: digits alone, no plus, no separators.
    phone_number TEXT NOT NULL,
    digits TEXT NOT NULL,
    name TEXT,
    e164_check_enabled BIGINT NOT NULL,
    is_active BIGINT NOT NULL,
    agent_id TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT
);
CREATE INDEX numbers_trunk ON numbers (trunk_id, created_at);
CREATE INDEX numbers_agent ON numbers (agent_id);

-- One row for each number on an active trunk, keyed by its digits: the database itself refuses a number on
-- two active trunks, whichever node or process asks.
CREATE TABLE number_claims (
    digits TEXT NOT NULL PRIMARY KEY,
    number_id TEXT NOT NULL REFERENCES numbers (id),
    trunk_id TEXT NOT NULL
);
CREATE INDEX number_claims_trunk ON number_claims (trunk_id);
CREATE INDEX number_claims_number ON number_claims (number_id);

CREATE TABLE agents (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    name TEXT NOT NULL,
    -- The client's own object, unknown fields and all, without the values of websocket.headers.
    body TEXT NOT NULL,
    -- Those values, sealed.
    headers TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX agents_account ON agents (account_id, created_at);

CREATE TABLE executions (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    node TEXT NOT NULL,
    status TEXT NOT NULL,
    is_final BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX executions_account ON executions (account_id, started_at);
CREATE INDEX executions_agent ON executions (agent_id, started_at);
CREATE INDEX executions_open ON executions (node, is_final);

CREATE TABLE verdicts (
    id TEXT NOT NULL PRIMARY KEY,
    -- Empty: the operator's alone.
    account_id TEXT NOT NULL,
    at BIGINT NOT NULL,
    code TEXT NOT NULL,
    verdict TEXT NOT NULL
);
CREATE INDEX verdicts_account ON verdicts (account_id, at);

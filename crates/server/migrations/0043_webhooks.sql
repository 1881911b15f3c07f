-- Where an account wants to be told of its calls.
CREATE TABLE webhooks (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    url TEXT NOT NULL,
    description TEXT NOT NULL,
    -- Statuses, blank-separated; empty means each.
    events TEXT NOT NULL,
    -- Sealed.
    secret TEXT NOT NULL,
    is_active BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision BIGINT NOT NULL DEFAULT 1
);
CREATE INDEX webhooks_account ON webhooks (account_id, id);

-- What is to be told, what was, and what came of it.
CREATE TABLE webhook_deliveries (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    -- The webhook; empty for an agent's own webhook_url.
    webhook_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    url TEXT NOT NULL,
    call_id TEXT NOT NULL,
    -- Order within a call.
    place BIGINT NOT NULL,
    -- The call's status that is told.
    event TEXT NOT NULL,
    -- The call's record at that moment, JSON.
    record TEXT NOT NULL,
    -- pending, delivered or failed.
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    last_status BIGINT,
    last_error TEXT,
    created_at BIGINT NOT NULL,
    finished_at BIGINT
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (state, next_at);
CREATE INDEX webhook_deliveries_account ON webhook_deliveries (account_id, id);
CREATE INDEX webhook_deliveries_call ON webhook_deliveries (call_id, state, place);

-- Calls that the API asks for and their queue, what calls cost, and batches of calls.

-- What the account may still spend; without it there is no bound. Thousandths of a cent.
ALTER TABLE accounts ADD COLUMN balance_millicents BIGINT;

ALTER TABLE executions ADD COLUMN direction TEXT NOT NULL DEFAULT 'inbound';
-- The caller of an inbound call, as routing compares numbers; empty when it withheld its number.
ALTER TABLE executions ADD COLUMN caller TEXT NOT NULL DEFAULT '';
ALTER TABLE executions ADD COLUMN is_answered BIGINT NOT NULL DEFAULT 0;
-- What was asked of an outbound call, and what became of it so far: a JSON object.
ALTER TABLE executions ADD COLUMN call_order TEXT;
-- When it is to be placed. Without it, it waits for nothing.
ALTER TABLE executions ADD COLUMN due_at BIGINT;
ALTER TABLE executions ADD COLUMN batch_id TEXT;
-- Set once, when it is charged.
ALTER TABLE executions ADD COLUMN cost_millicents BIGINT;
CREATE INDEX executions_due ON executions (due_at);
CREATE INDEX executions_waiting ON executions (account_id, due_at);
CREATE INDEX executions_batch ON executions (batch_id, started_at);
CREATE INDEX executions_caller ON executions (agent_id, caller);

CREATE TABLE batches (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    -- created, scheduled, queued, stopped; the rest follows from its executions.
    state TEXT NOT NULL,
    file_name TEXT NOT NULL,
    -- JSON: the numbers to call from, how to retry, the contacts that wait for a time.
    plan TEXT NOT NULL,
    total_contacts BIGINT NOT NULL,
    valid_contacts BIGINT NOT NULL,
    scheduled_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX batches_agent ON batches (agent_id, created_at);

-- Batches keep their contacts apart from what lists show, and are counted by the state of their calls.

-- JSON: number and facts of each.
ALTER TABLE batches ADD COLUMN contacts TEXT NOT NULL DEFAULT '[]';
DROP INDEX batches_agent;
CREATE INDEX batches_agent ON batches (agent_id, created_at, id);
CREATE INDEX executions_of_batch ON executions (batch_id, status) WHERE batch_id IS NOT NULL;

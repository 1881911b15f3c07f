-- Every list is read in the order of an index, beginning where the last page ended.
CREATE INDEX trunks_listed ON trunks (account_id, created_at, id);
CREATE INDEX numbers_listed ON numbers (account_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX numbers_of_trunk ON numbers (trunk_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX numbers_of_trunk_digits ON numbers (trunk_id, digits) WHERE deleted_at IS NULL;
DROP INDEX numbers_trunk;
DROP INDEX numbers_agent;
CREATE INDEX numbers_agent ON numbers (agent_id, created_at, id);
CREATE INDEX agents_listed ON agents (account_id, created_at, id);
DROP INDEX agents_account;
CREATE INDEX gateways_account ON gateways (account_id, trunk_id, position);
CREATE INDEX ip_identifiers_account ON ip_identifiers (account_id, trunk_id, position);
CREATE INDEX executions_listed ON executions (account_id, agent_id, started_at, id);
DROP INDEX executions_agent;

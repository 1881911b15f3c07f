-- One trunk for every API that writes it: which one made it, what the trunk may do, how much it carries; and
-- numbers that a carrier writes in its own way.

-- 'sip-trunk', 'trunk' or 'exotel'.
ALTER TABLE trunks ADD COLUMN family TEXT NOT NULL DEFAULT 'sip-trunk';
ALTER TABLE trunks ADD COLUMN outbound_enabled BIGINT NOT NULL DEFAULT 1;
-- Who answers a number of the trunk that has no agent of its own.
ALTER TABLE trunks ADD COLUMN default_agent_id TEXT;
-- Concurrent calls; NULL is no bound.
ALTER TABLE trunks ADD COLUMN calls_total BIGINT;
ALTER TABLE trunks ADD COLUMN calls_in BIGINT;
ALTER TABLE trunks ADD COLUMN calls_out BIGINT;
-- Thousandths: 500 is one call every two seconds.
ALTER TABLE trunks ADD COLUMN calls_per_second_milli BIGINT;
CREATE INDEX trunks_default_agent ON trunks (default_agent_id);

-- How the carrier writes the number in a Request-URI, where that is not the number itself.
ALTER TABLE numbers ADD COLUMN destination_key TEXT;

-- What calls tell of a trunk's carrier. Written by what calls leave behind, so it is no part of the trunk's row.
CREATE TABLE trunk_health (
    trunk_id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    -- The first call that was answered, in either direction.
    answered_at BIGINT,
    -- Outbound calls that failed since the last one that was answered.
    outbound_failures BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

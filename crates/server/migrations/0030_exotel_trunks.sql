-- What Exotel's API sets on a trunk beyond what Bolna's does; one trunk is seen through both.
ALTER TABLE trunks ADD COLUMN domain_name TEXT;
ALTER TABLE trunks ADD COLUMN nso_code TEXT;
ALTER TABLE trunks ADD COLUMN external_alias TEXT;
ALTER TABLE trunks ADD COLUMN external_alias_created_at BIGINT;
ALTER TABLE trunks ADD COLUMN external_alias_updated_at BIGINT;

ALTER TABLE gateways ADD COLUMN weight BIGINT NOT NULL DEFAULT 1;
-- NULL: the trunk's.
ALTER TABLE gateways ADD COLUMN transport TEXT;
ALTER TABLE gateways ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
UPDATE gateways SET updated_at = created_at;

ALTER TABLE ip_identifiers ADD COLUMN created_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE ip_identifiers ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
UPDATE ip_identifiers SET created_at = (SELECT t.created_at FROM trunks t WHERE t.id = ip_identifiers.trunk_id);
UPDATE ip_identifiers SET updated_at = created_at;

-- 'pstn', 'flow', or NULL for a number whose owner did not say.
ALTER TABLE numbers ADD COLUMN mode TEXT;
CREATE INDEX numbers_digits ON numbers (digits);

-- The digest credentials of a trunk, any one of which proves it. The first is the one that Bolna's API shows.
CREATE TABLE trunk_credentials (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    trunk_id TEXT NOT NULL REFERENCES trunks (id),
    position BIGINT NOT NULL,
    user_name TEXT NOT NULL,
    -- Sealed.
    password TEXT NOT NULL,
    friendly_name TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX trunk_credentials_trunk ON trunk_credentials (trunk_id, position);
INSERT INTO trunk_credentials (id, account_id, trunk_id, position, user_name, password, created_at, updated_at)
    SELECT id, account_id, id, 0, auth_username, auth_password, created_at, updated_at FROM trunks
    WHERE auth_username IS NOT NULL AND auth_password IS NOT NULL;
ALTER TABLE trunks DROP COLUMN auth_username;
ALTER TABLE trunks DROP COLUMN auth_password;

-- How a trunk's calls leave, as its owner decided: failover, redirects, identity. JSON; NULL is all defaults.
ALTER TABLE trunks ADD COLUMN outbound_policy TEXT;

-- Gateways that are found by the carrier's SRV records (RFC 3263 section 4.2): those whose owner gave no port. Those that
-- stand already keep the port they have.
ALTER TABLE gateways ADD COLUMN by_service BIGINT NOT NULL DEFAULT 0;

-- A row's revision: raised by every change of what the API shows of the row, and held against If-Match.
ALTER TABLE trunks ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;
ALTER TABLE numbers ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;
ALTER TABLE agents ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;

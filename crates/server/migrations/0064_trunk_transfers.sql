-- How calls of a trunk may be transferred, as JSON; NULL is the default.
ALTER TABLE trunks ADD COLUMN transfer_policy TEXT;

-- What verdicts are asked for by, beside their account. Rows of before are found without these filters alone.
ALTER TABLE verdicts ADD COLUMN trunk_id TEXT NOT NULL DEFAULT '';
ALTER TABLE verdicts ADD COLUMN number_id TEXT NOT NULL DEFAULT '';
-- The digits dialled, as numbers are matched by.
ALTER TABLE verdicts ADD COLUMN dialled TEXT NOT NULL DEFAULT '';
ALTER TABLE verdicts ADD COLUMN source TEXT NOT NULL DEFAULT '';

-- What a trunk registers at its carrier, as one JSON object; null where it registers nothing.
ALTER TABLE trunks ADD COLUMN registration TEXT;

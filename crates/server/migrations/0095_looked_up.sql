-- No question of the API, and none that a start asks, reads a whole table.

-- What a dialled number is found by. Numbers that were removed are never asked for by their digits.
CREATE INDEX numbers_dialled ON numbers (digits, id) WHERE deleted_at IS NULL;
DROP INDEX numbers_digits;
CREATE INDEX accounts_under ON accounts (parent_id, id);
CREATE INDEX accounts_exhausted ON accounts (id) WHERE balance_millicents <= 0;
CREATE INDEX api_keys_prefix ON api_keys (prefix);

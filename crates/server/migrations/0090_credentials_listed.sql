-- As 0003, for a table that came after it.
CREATE INDEX trunk_credentials_account ON trunk_credentials (account_id, trunk_id, position);

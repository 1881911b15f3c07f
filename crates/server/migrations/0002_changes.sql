-- What each change touched, in the order in which changes were made: routing reads the rows named here instead
-- of every row, on the node that made the change and on the others. Old rows make room; who was away for longer
-- reads everything anew.
CREATE TABLE changes (
    -- Without gaps: a change takes its number and is committed while no other change is under way.
    seq BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    -- Which open store made it.
    origin TEXT NOT NULL,
    -- JSON: identifiers of trunks, numbers and agents.
    touched TEXT NOT NULL
);
CREATE INDEX changes_at ON changes (at);

-- One synchronous call. `ended_at` NULL: under way, or perhaps done by a process that died. `reserved_usd`: the most
-- that it may cost.
CREATE TABLE direct_calls (
    call INTEGER PRIMARY KEY,
    artist_id VARCHAR NOT NULL,
    tokens INTEGER NOT NULL,
    reserved_usd DOUBLE NOT NULL DEFAULT 0,
    intended_at DOUBLE NOT NULL,
    ended_at DOUBLE,
    outcome VARCHAR
);

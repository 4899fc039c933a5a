-- The hash of what a line asks, without its custom_id: lines of one hash ask the same. NULL: it was not needed.
ALTER TABLE artists ADD COLUMN request_hash UBIGINT;
-- The artist whose line asks the same, and whose answer this one is given. A ready artist that follows has no version, no
-- shard and no tokens: nothing of it is sent. One that is done, held or dead became so with the line that it follows.
ALTER TABLE artists ADD COLUMN follows VARCHAR;

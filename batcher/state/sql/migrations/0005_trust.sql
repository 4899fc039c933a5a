-- Of a batch: `checked_at` is when its status or its counts changed last, or when it was asked for by itself (our clock).
-- `cancel_due` is the time before which it is not asked again to be cancelled. `missing_since` (the service's clock) and
-- `doubted_since` (ours) are now those of any look that found that it should be given up; `unlisted_date` (the service's
-- clock, 0: it tells none) and `unlisted_since` (ours) those of the listing that first lacked it.
ALTER TABLE batches ADD COLUMN checked_at DOUBLE DEFAULT 0;
ALTER TABLE batches ADD COLUMN cancel_due DOUBLE DEFAULT 0;
ALTER TABLE batches ADD COLUMN doubted_since DOUBLE;
ALTER TABLE batches ADD COLUMN unlisted_date DOUBLE;
ALTER TABLE batches ADD COLUMN unlisted_since DOUBLE;
-- Since when the service refuses to find the file that it has given us for a shard (our clock).
ALTER TABLE shards ADD COLUMN file_missing_since DOUBLE;
-- Tokens that an execution has written to the prompt cache, and of its output those that were thought before the answer.
ALTER TABLE attempts ADD COLUMN tokens_written INTEGER DEFAULT 0;
ALTER TABLE attempts ADD COLUMN tokens_reasoning INTEGER DEFAULT 0;
ALTER TABLE bios ADD COLUMN tokens_written INTEGER DEFAULT NULL;
ALTER TABLE bios ADD COLUMN tokens_reasoning INTEGER DEFAULT NULL;
ALTER TABLE batches ADD COLUMN used_written BIGINT DEFAULT 0;
ALTER TABLE batches ADD COLUMN used_reasoning BIGINT DEFAULT 0;

-- Counted tokens of the longest line of a shard: a long request has another price.
ALTER TABLE shards ADD COLUMN longest INTEGER DEFAULT 0;
UPDATE shards SET longest = a.longest
FROM (SELECT shard, max(tokens) AS longest FROM artists WHERE shard IS NOT NULL GROUP BY shard) AS a
WHERE shards.shard = a.shard;

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

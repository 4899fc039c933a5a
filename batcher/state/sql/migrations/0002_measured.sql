-- What a settled batch teaches: lines that were executed with usage told, their counted tokens, what they used, how
-- many lines went again, and how many it decided (0 where another batch of its shard did).
ALTER TABLE batches ADD COLUMN executed INTEGER DEFAULT 0;
ALTER TABLE batches ADD COLUMN counted_tokens BIGINT DEFAULT 0;
ALTER TABLE batches ADD COLUMN used_input BIGINT DEFAULT 0;
ALTER TABLE batches ADD COLUMN used_cached BIGINT DEFAULT 0;
ALTER TABLE batches ADD COLUMN used_output BIGINT DEFAULT 0;
ALTER TABLE batches ADD COLUMN again INTEGER DEFAULT 0;
ALTER TABLE batches ADD COLUMN decided INTEGER DEFAULT 0;

-- `unread`: given up before all its results were read; it is asked for again as long as the service keeps it.
ALTER TABLE batches ADD COLUMN unread BOOLEAN DEFAULT false;
-- The intent to delete the input file of a batch that was shown to be absent.
ALTER TABLE submissions ADD COLUMN delete_intended_at DOUBLE;

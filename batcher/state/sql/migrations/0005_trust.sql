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

-- name: told_listing_problems
SELECT DISTINCT detail FROM events WHERE kind = 'listing_problem'

-- name: batches_of_shard
SELECT batch_id, stray, status, completed, created_at, ended_at, cancel_wanted_at FROM batches
WHERE shard = $shard AND settled_at IS NULL

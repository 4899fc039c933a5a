-- name: told_listing_problems
SELECT DISTINCT detail FROM events WHERE kind = 'listing_problem'

-- name: unproven_due
-- Creates that were given up and whose batch is to be searched for now, and when the first of their input files was made.
SELECT count(*), min(n.file_created_at) FROM submissions AS n JOIN shards AS s USING (shard)
WHERE n.outcome = 'unproven' AND n.create_intended_at > $since AND s.wait_until <= $now

-- name: postpone_unproven
UPDATE shards SET wait_until = $until WHERE shard IN (SELECT shard FROM submissions WHERE outcome = 'unproven')

-- name: batches_of_shard
SELECT batch_id, stray, status, completed, created_at, ended_at, cancel_wanted_at FROM batches
WHERE shard = $shard AND settled_at IS NULL

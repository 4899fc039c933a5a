-- name: release_shards
UPDATE shards SET state = 'released'
WHERE shard IN (SELECT shard FROM shards WHERE state = 'planned' ORDER BY priority, shard LIMIT $most)
RETURNING shard

-- name: loosen_shard
UPDATE artists SET shard = NULL WHERE shard = $shard AND state = 'ready'

-- name: hold_shard_lines
UPDATE artists SET state = $target, failure = 'cancelled', code = 'cancelled_by_hand', message = 'cancelled by hand',
                   wait_until = NULL
WHERE shard = $shard AND state = 'ready' AND list_contains($sources, state)

-- name: set_shard_file
UPDATE shards SET file_id = $file_id, file_created_at = $created_at, file_missing_since = NULL WHERE shard = $shard

-- name: delay_shard
UPDATE shards SET wait_until = $until WHERE shard = $shard

-- name: count_refusal
UPDATE shards SET refusals = refusals + 1, wait_until = $until WHERE shard = $shard RETURNING refusals

-- name: forget_refusals
UPDATE shards SET refusals = 0 WHERE refusals > 0

-- name: doubt_file
UPDATE shards SET file_missing_since = coalesce(file_missing_since, $now) WHERE shard = $shard

-- name: trust_file
-- Only refusals of a file that was not found are over once it was found.
UPDATE shards SET file_missing_since = NULL, refusals = 0 WHERE shard = $shard AND file_missing_since IS NOT NULL

-- name: queue_shard_file
-- Checks before it inserts: INSERT OR IGNORE takes three times as long, as does an UPDATE with RETURNING.
INSERT INTO remote_files (file_id, purpose, shard, since)
SELECT file_id, 'batch', shard, $now FROM shards
WHERE shard = $shard AND file_id IS NOT NULL AND file_id NOT IN (SELECT file_id FROM remote_files)

-- name: highest_shard
SELECT coalesce(max(shard), 0) FROM shards

-- name: shards_not_sent
SELECT shard FROM shards WHERE state IN ('released', 'uploaded') ORDER BY priority, shard

-- name: count_planned
SELECT count(*) FROM shards WHERE state = 'planned'

-- name: wishable_shards
SELECT shard, state FROM shards ORDER BY shard

-- name: shard
SELECT shard, priority, state, lines, tokens, sha256, version, refusals, submission, file_id, file_created_at,
       file_missing_since, retry, longest
FROM shards WHERE shard = $shard

-- name: open_wishes
-- Shards to be cancelled that have not come to their end.
SELECT w.shard, s.state FROM wishes AS w JOIN shards AS s USING (shard)
WHERE w.ended_at IS NULL AND s.state NOT IN ('planned', 'settled', 'stale', 'split') ORDER BY w.shard

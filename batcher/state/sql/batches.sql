-- name: known_batches
SELECT batch_id, submission, shard, status, created_at, ended_at, settled_at, input_file_id, completed, failed, checked_at,
       missing_since, doubted_since, unlisted_date, unlisted_since
FROM batches

-- name: known_batch
SELECT batch_id, submission, shard, status, created_at, ended_at, settled_at, input_file_id, completed, failed, checked_at,
       missing_since, doubted_since, unlisted_date, unlisted_since
FROM batches WHERE batch_id = $batch_id

-- name: listing_floor
-- How far back a listing must go to show every batch in flight, and every batch that may still appear: of a submission
-- whose create was refused or shown to be absent within the time that a batch may run.
SELECT min(t) FROM (
    SELECT min(created_at) AS t FROM batches WHERE ended_at IS NULL
    UNION ALL
    SELECT min(file_created_at) FROM submissions
    WHERE batch_id IS NULL AND create_intended_at IS NOT NULL AND ended_at > $since
)

-- name: set_stray
UPDATE batches SET stray = $stray, reserved = $reserved WHERE batch_id = $batch_id

-- name: wish_cancel
-- The intent to cancel a batch, which the process of the batch lane carries out.
UPDATE batches SET cancel_wanted_at = $now
WHERE batch_id = $batch_id AND cancel_wanted_at IS NULL AND ended_at IS NULL
RETURNING batch_id

-- name: unread_due
-- Batches that were given up while some of their lines are held as perhaps paid, or while lines that the user has asked
-- for again are not in a shard yet: what a batch says by now is read before they are bought again.
SELECT b.batch_id FROM batches AS b
WHERE b.unread AND b.settled_at IS NOT NULL AND b.created_at > $since AND b.retry_at <= $now
  AND (EXISTS (SELECT 1 FROM artists AS a WHERE a.shard = b.shard AND a.state = 'held' AND a.failure = 'missing')
       OR EXISTS (SELECT 1 FROM artists AS a WHERE a.shard IS NULL AND a.state = 'ready' AND a.failure = 'missing'))
ORDER BY b.created_at LIMIT 100

-- name: unread_now
UPDATE batches SET retry_at = 0 WHERE unread AND settled_at IS NOT NULL

-- name: postpone_batch
UPDATE batches SET retry_at = $until WHERE batch_id = $batch_id

-- name: postpone_cancel
UPDATE batches SET cancel_due = $until WHERE batch_id = $batch_id

-- name: take_up_again
-- `read_first_at` stays: results that were missing for a day are read once more, not for another day.
UPDATE batches SET status = $status, settled_at = NULL, retry_at = 0, unread = false
WHERE batch_id = $batch_id AND settled_at IS NOT NULL

-- name: set_doubted
UPDATE batches SET missing_since = $server, doubted_since = $ours WHERE batch_id = $batch_id

-- name: set_unlisted
UPDATE batches SET unlisted_date = $server, unlisted_since = $ours WHERE batch_id = $batch_id

-- name: set_checked
UPDATE batches SET checked_at = $now WHERE batch_id = $batch_id

-- name: insert_batch
INSERT INTO batches (batch_id, submission, shard, stray, status, created_at, expires_at, input_file_id, reserved, recorded_at,
                     checked_at)
VALUES ($batch_id, $submission, $shard, $stray, $status, $created_at, $expires_at, $input_file_id, $reserved, $now, $now)

-- name: update_batch
UPDATE batches
-- A value that is known stays where the report lacks it, as ours of a batch that is gone does.
SET status = $status, expires_at = coalesce($expires_at, expires_at), finished_at = coalesce($finished_at, finished_at),
    total = greatest($total, total), completed = greatest($completed, completed), failed = greatest($failed, failed),
    output_file_id = coalesce($output_file_id, output_file_id), error_file_id = coalesce($error_file_id, error_file_id),
    usage_input = coalesce($usage_input, usage_input), usage_cached = coalesce($usage_cached, usage_cached),
    usage_output = coalesce($usage_output, usage_output), errors = coalesce($errors, errors),
    missing_since = NULL, doubted_since = NULL,
    checked_at = CASE WHEN status <> $status OR $completed > completed OR $failed > failed THEN $now ELSE checked_at END
WHERE batch_id = $batch_id

-- name: end_batch
UPDATE batches SET ended_at = $now WHERE batch_id = $batch_id AND ended_at IS NULL

-- name: settle_batch
UPDATE batches SET settled_at = $now WHERE batch_id = $batch_id AND settled_at IS NULL

-- name: batch
SELECT batch_id, submission, shard, stray, status, total, completed, failed, input_file_id, output_file_id, error_file_id,
       errors, read_first_at, ended_at, settled_at, recorded_at,
       cancel_wanted_at IS NOT NULL OR cancel_asked_at IS NOT NULL
           OR shard IN (SELECT shard FROM wishes WHERE ended_at IS NULL)
FROM batches WHERE batch_id = $batch_id

-- name: count_siblings
SELECT count(*) FILTER (settled_at IS NULL), count(*) FROM batches WHERE shard = $shard AND batch_id <> $batch_id

-- name: reading_history
-- The incomplete readings of a batch, the last of them that found the same, and when the first of those was made.
WITH readings AS (
    SELECT event, happened_at, detail FROM events WHERE kind = 'results_incomplete' AND batch_id = $batch_id
)
SELECT count(*), count(*) FILTER (is_same), min(happened_at) FILTER (is_same) FROM (
    SELECT happened_at, event > (SELECT coalesce(max(event), -1) FROM readings WHERE detail <> $finding) AS is_same
    FROM readings
)

-- name: postpone_reading
UPDATE batches SET retry_at = $until, read_first_at = coalesce(read_first_at, $now) WHERE batch_id = $batch_id

-- name: mark_unread
UPDATE batches SET unread = true, retry_at = $next WHERE batch_id = $batch_id

-- name: cancel_asked
UPDATE batches SET cancel_asked_at = $now WHERE batch_id = $batch_id

-- name: progress
-- Lines released, lines settled, and lines that unsettled batches have done.
SELECT (SELECT count(*) FROM artists AS a LEFT JOIN shards AS s USING (shard)
        WHERE a.version IS NOT NULL AND (s.state IS NULL OR s.state <> 'planned')),
       (SELECT count(*) FROM artists WHERE state IN ('done', 'dead', 'held')),
       (SELECT coalesce(sum(completed + failed), 0) FROM batches WHERE settled_at IS NULL)::BIGINT

-- name: running_batches
SELECT batch_id FROM batches WHERE shard = $shard AND ended_at IS NULL

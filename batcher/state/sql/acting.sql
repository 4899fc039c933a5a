-- name: release_shards
UPDATE shards SET state = 'released'
WHERE shard IN (SELECT shard FROM shards WHERE state = 'planned' ORDER BY priority, shard LIMIT $most)
RETURNING shard

-- name: active_shards
SELECT shard, priority, state, lines, tokens, CASE WHEN wait_until > $latest THEN 0 ELSE wait_until END, submission, version
FROM shards
WHERE state NOT IN ('planned', 'settled', 'stale', 'split')

-- name: open_batches
-- `cancels`: to be cancelled, and not asked yet. `held_back`: another batch of its shard is not settled, and this one
-- has the last word on the lines.
SELECT batch_id, shard, status, reserved, CASE WHEN retry_at > $latest THEN 0 ELSE retry_at END AS due,
       (cancel_wanted_at IS NOT NULL OR shard IN (SELECT shard FROM wishes WHERE ended_at IS NULL))
           AND cancel_asked_at IS NULL AND ended_at IS NULL AND due <= $now AS cancels, recorded_at,
       NOT stray AND count(*) OVER (PARTITION BY shard) > 1 AS held_back
FROM batches WHERE settled_at IS NULL

-- name: loose_lines
SELECT priority, count(*), sum(tokens)::BIGINT, CASE WHEN due <= $now THEN 0 ELSE min(due) END
FROM (SELECT priority, tokens, CASE WHEN wait_until > $latest THEN 0 ELSE coalesce(wait_until, 0) END AS due
      FROM artists
      WHERE shard IS NULL AND state IN ('ready', 'waiting') AND version IS NOT NULL)
GROUP BY priority, due <= $now, CASE WHEN due <= $now THEN 0 ELSE due END

-- name: reserved
-- What was reserved by a ratio that has proved too low since counts by the one that is known now.
SELECT (SELECT coalesce(sum(greatest(reserved, ceil(tokens * $factor))), 0) FROM submissions WHERE ended_at IS NULL)::BIGINT
     + (SELECT coalesce(sum(greatest(b.reserved, ceil(n.tokens * $factor))), 0)
        FROM batches AS b JOIN submissions AS n USING (submission) WHERE b.stray AND b.ended_at IS NULL)::BIGINT

-- name: measured
-- What the settled batches of the newest version teach.
SELECT coalesce(sum(executed), 0)::BIGINT, coalesce(sum(counted_tokens), 0)::BIGINT,
       coalesce(sum(used_input), 0)::BIGINT, coalesce(sum(used_cached), 0)::BIGINT,
       coalesce(sum(used_output), 0)::BIGINT, coalesce(sum(again), 0)::BIGINT, coalesce(sum(decided), 0)::BIGINT
FROM batches AS b JOIN shards AS s USING (shard)
WHERE b.settled_at IS NOT NULL AND s.version >= (SELECT max(version) FROM shards WHERE NOT retry)

-- name: paid_again
-- Answers of the newest version that were paid for and could not be used (a line that then dies is among them).
SELECT count(*) FROM attempts AS t JOIN shards AS s USING (shard)
WHERE t.outcome = 'unusable' AND t.tokens_input > 0 AND s.version >= (SELECT max(version) FROM shards WHERE NOT retry)

-- name: service_times
-- Seconds from a batch's creation to its end, in the service's clock, of those that were not cut short.
SELECT finished_at - created_at FROM batches
WHERE status IN ('completed', 'expired') AND finished_at IS NOT NULL ORDER BY 1

-- name: flights
-- What runs: its reserved tokens, lines, and age in seconds in our clock.
SELECT CASE WHEN b.stray THEN b.reserved ELSE n.reserved END, n.lines, greatest($now - b.recorded_at, 0)
FROM batches AS b JOIN submissions AS n USING (submission)
WHERE b.ended_at IS NULL
UNION ALL
SELECT n.reserved, n.lines, 0.0 FROM submissions AS n WHERE n.ended_at IS NULL AND n.batch_id IS NULL

-- name: unsent
-- What is not sent, in the order of sending.
SELECT tokens, lines FROM shards WHERE state IN ('planned', 'released', 'uploaded') ORDER BY priority, shard

-- name: refused_at
-- What was in flight when the service last refused for its limit.
SELECT reserved FROM quota_samples
WHERE source = 'refusal' AND model = $model AND reserved IS NOT NULL AND happened_at > $since AND happened_at <= $now
ORDER BY happened_at DESC LIMIT 1

-- name: money
-- A stray costs as much as the batch beside it. What was given up is reserved for the lines that are perhaps paid and
-- that nobody has bought again.
SELECT (SELECT coalesce(sum(cost_usd), 0) FROM attempts),
       (SELECT coalesce(sum(reserved_usd), 0) FROM submissions WHERE outcome IS NULL)
     + (SELECT coalesce(sum(n.reserved_usd), 0) FROM batches AS b JOIN submissions AS n USING (submission)
        WHERE b.stray AND b.settled_at IS NULL)
     + (SELECT coalesce(sum(n.reserved_usd / n.lines), 0)
        FROM batches AS b JOIN submissions AS n USING (submission) JOIN attempts AS t ON t.batch_id = b.batch_id
        JOIN artists AS a USING (artist_id)
        WHERE b.settled_at IS NOT NULL AND (b.stray OR n.outcome IS NOT NULL) AND t.outcome = 'missing'
          AND a.failure = 'missing' AND a.state IN ('held', 'ready', 'waiting'))
     + (SELECT coalesce(sum(reserved_usd), 0) FROM direct_calls WHERE ended_at IS NULL OR outcome = 'lost')

-- name: calls_running
-- One that is open for longer has lost its process.
SELECT count(*) FROM direct_calls WHERE ended_at IS NULL AND intended_at > $since

-- name: created_since
SELECT count(*) FROM submissions WHERE create_intended_at > $since AND create_intended_at <= $now

-- name: open_pauses
SELECT scope, reason, since, CASE WHEN until > $latest THEN 0 ELSE until END, tries FROM pauses WHERE ended_at IS NULL

-- name: quota_paused_until
-- When the last quota pause was over, or will be.
SELECT max(over) FROM (SELECT least(until, coalesce(ended_at, until)) AS over FROM pauses WHERE reason = 'quota')
WHERE over <= $latest

-- name: end_pauses
UPDATE pauses SET ended_at = $now WHERE ended_at IS NULL AND ($reasons IS NULL OR list_contains($reasons, reason)) RETURNING pause

-- name: insert_pause
INSERT INTO pauses (pause, scope, reason, since, until, tries)
SELECT coalesce(max(pause), 0) + 1, $scope, $reason, $now, $until, $tries FROM pauses

-- name: learned
-- The limit that a refusal named last; and half of the smallest shard of the newest version that was refused so often
-- though nothing of ours was in flight before it: others hold the rest.
SELECT (SELECT limit_tokens FROM quota_samples
        WHERE source = 'refusal' AND model = $model AND limit_tokens IS NOT NULL AND happened_at > $since
          AND happened_at <= $now
        ORDER BY happened_at DESC LIMIT 1),
       (SELECT min(tokens) // 2 FROM shards
        WHERE lines > 1 AND version >= (SELECT max(version) FROM shards WHERE NOT retry)
          AND shard IN (SELECT shard FROM submissions
                        WHERE outcome = 'refused: enqueued_limit' AND reserved_before = 0
                          AND ended_at > $since AND ended_at <= $now
                        GROUP BY shard HAVING count(*) >= $often))

-- name: newest_limit
SELECT limit_tokens, happened_at FROM quota_samples
WHERE source = 'refusal' AND model = $model AND limit_tokens IS NOT NULL AND happened_at <= $now ORDER BY happened_at DESC LIMIT 1

-- name: ceiling_passed
-- Batches that the service took on beyond a limit.
SELECT count(*) FROM submissions AS n JOIN batches AS b USING (submission)
WHERE n.intended_at >= $since AND n.reserved_before + n.reserved > $ceiling
  AND b.status NOT IN ('validating', 'failed', 'overdue')

-- name: insert_quota_sample
INSERT INTO quota_samples (happened_at, source, model, limit_tokens, reserved, own, headroom, shard, detail)
VALUES ($now, $source, $model, $limit_tokens, $reserved, $own, $headroom, $shard, $detail)

-- name: files_due
SELECT file_id, tries FROM remote_files WHERE deleted_at IS NULL AND since <= $now ORDER BY since, file_id LIMIT 100

-- name: postpone_files
UPDATE remote_files SET since = $next WHERE deleted_at IS NULL AND since <= $now RETURNING file_id

-- name: count_files_due
SELECT (SELECT count(*) FROM remote_files WHERE deleted_at IS NULL AND since <= $now)
     + (SELECT count(*) FROM submissions WHERE orphan_due <= $now)

-- name: is_deleted
SELECT count(*) FROM remote_files WHERE file_id = $file_id AND deleted_at IS NOT NULL

-- name: orphans_due
SELECT submission, shard, orphan_looks FROM submissions WHERE orphan_due <= $now ORDER BY submission LIMIT 100

-- name: watch_orphan
UPDATE submissions SET orphan_due = $due WHERE submission = $submission

-- name: looked_for_orphan
UPDATE submissions SET orphan_due = $due, orphan_looks = orphan_looks + 1 WHERE submission = $submission

-- name: queue_file
INSERT INTO remote_files (file_id, purpose, shard, since) SELECT $file_id, $purpose, $shard, $now
WHERE $file_id NOT IN (SELECT file_id FROM remote_files)

-- name: file_deleted
UPDATE remote_files SET deleted_at = $now, error = NULL WHERE file_id = $file_id

-- name: file_not_deleted
UPDATE remote_files SET tries = tries + 1, since = $next, error = $error WHERE file_id = $file_id

-- name: shard
SELECT shard, priority, state, lines, tokens, sha256, version, refusals, submission, file_id, file_created_at, retry
FROM shards WHERE shard = $shard

-- name: submission
SELECT submission, shard, lines, tokens, reserved, file_id, file_created_at, batch_id, intended_at, create_intended_at,
       absent_since, absent_since_local, cancel_wanted_at, outcome, delete_intended_at
FROM submissions WHERE submission = $submission

-- name: submission_of_file
SELECT max(submission) FROM submissions WHERE file_id = $file_id AND create_intended_at IS NOT NULL

-- name: insert_submission
INSERT INTO submissions (submission, shard, lines, tokens, reserved, limit_tokens, reserved_before, headroom_after,
                         reserved_usd, intended_at)
SELECT coalesce(max(submission), 0) + 1, $shard, $lines, $tokens, $reserved, $limit_tokens, $reserved_before,
       $headroom_after, $reserved_usd, $now
FROM submissions
RETURNING submission

-- name: claim_lines
UPDATE artists SET state = $target, submission = $submission
WHERE shard = $shard AND list_contains($sources, state)

-- name: give_lines_back
UPDATE artists SET state = $target, submission = NULL
WHERE submission = $submission AND list_contains($sources, state)

-- name: hold_perhaps_paid
UPDATE artists
SET state = $target, submission = NULL, failure = 'missing', code = 'perhaps_paid',
    message = 'another batch of its shard was given up, and may have answered it'
WHERE submission = $submission AND list_contains($sources, state)
  AND artist_id IN (SELECT t.artist_id FROM attempts AS t
                    JOIN submissions AS n ON n.submission = $submission AND t.shard = n.shard
                    WHERE t.outcome = 'missing')

-- name: hold_shard_lines
UPDATE artists SET state = $target, failure = 'cancelled', code = 'cancelled_by_hand', message = 'cancelled by hand',
                   wait_until = NULL
WHERE shard = $shard AND state = 'ready' AND list_contains($sources, state)

-- name: loosen_shard
UPDATE artists SET shard = NULL WHERE shard = $shard AND state = 'ready'

-- name: set_shard_file
UPDATE shards SET file_id = $file_id, file_created_at = $created_at WHERE shard = $shard

-- name: set_create_intended
UPDATE submissions SET create_intended_at = $now, file_id = $file_id, file_created_at = $created_at
WHERE submission = $submission

-- name: reopen_submission
UPDATE submissions SET ended_at = NULL, outcome = NULL WHERE submission = $submission

-- name: set_submission_batch
UPDATE submissions SET batch_id = $batch_id WHERE submission = $submission

-- name: intend_delete
UPDATE submissions SET delete_intended_at = $now WHERE submission = $submission

-- name: set_absent_since
UPDATE submissions SET absent_since = $at, absent_since_local = $now WHERE submission = $submission

-- name: end_submission
UPDATE submissions SET ended_at = coalesce(ended_at, $now), outcome = $outcome WHERE submission = $submission

-- name: end_submission_tokens
UPDATE submissions SET ended_at = coalesce(ended_at, $now) WHERE submission = $submission

-- name: delay_shard
UPDATE shards SET wait_until = $until WHERE shard = $shard

-- name: count_refusal
UPDATE shards SET refusals = refusals + 1, wait_until = $until WHERE shard = $shard RETURNING refusals

-- name: known_batches
SELECT batch_id, submission, shard, status, created_at, ended_at, settled_at, input_file_id, missing_since FROM batches

-- name: known_batch
SELECT batch_id, submission, shard, status, created_at, ended_at, settled_at, input_file_id, missing_since FROM batches
WHERE batch_id = $batch_id

-- name: listing_floor
-- How far back a listing must go to show every batch in flight, and any that may yet come to light: of a submission
-- whose create was refused or shown to be absent within the time that a batch may run.
SELECT min(t) FROM (
    SELECT min(created_at) AS t FROM batches WHERE ended_at IS NULL
    UNION ALL
    SELECT min(file_created_at) FROM submissions
    WHERE batch_id IS NULL AND create_intended_at IS NOT NULL AND ended_at > $since
)

-- name: batches_of_shard
SELECT batch_id, stray, status, completed, created_at, ended_at, cancel_wanted_at FROM batches
WHERE shard = $shard AND settled_at IS NULL

-- name: set_stray
UPDATE batches SET stray = $stray, reserved = $reserved WHERE batch_id = $batch_id

-- name: wish_cancel
-- The intent to cancel a batch; its owner carries it out.
UPDATE batches SET cancel_wanted_at = $now
WHERE batch_id = $batch_id AND cancel_wanted_at IS NULL AND ended_at IS NULL
RETURNING batch_id

-- name: cancel_later
UPDATE batches SET retry_at = $until WHERE batch_id = $batch_id

-- name: unread_due
-- Batches that were given up while lines of theirs are held as perhaps paid.
SELECT b.batch_id FROM batches AS b
WHERE b.unread AND b.settled_at IS NOT NULL AND b.created_at > $since AND b.retry_at <= $now
  AND EXISTS (SELECT 1 FROM artists AS a WHERE a.shard = b.shard AND a.state = 'held' AND a.failure = 'missing')
ORDER BY b.created_at LIMIT 100

-- name: unread_now
UPDATE batches SET retry_at = 0 WHERE unread AND settled_at IS NOT NULL

-- name: look_later
UPDATE batches SET retry_at = $next WHERE batch_id = $batch_id

-- name: take_up_again
-- `read_first_at` stays: what was asked for during a day is asked for once more, not for another day.
UPDATE batches SET status = $status, settled_at = NULL, retry_at = 0, unread = false
WHERE batch_id = $batch_id AND settled_at IS NOT NULL

-- name: cancel_asked
UPDATE batches SET cancel_asked_at = $now WHERE batch_id = $batch_id

-- name: set_missing
UPDATE batches SET missing_since = $at WHERE batch_id = $batch_id

-- name: batch
SELECT batch_id, submission, shard, stray, status, total, completed, failed, input_file_id, output_file_id, error_file_id,
       errors, read_first_at, ended_at, settled_at, recorded_at
FROM batches WHERE batch_id = $batch_id

-- name: insert_batch
INSERT INTO batches (batch_id, submission, shard, stray, status, created_at, expires_at, input_file_id, reserved, recorded_at)
VALUES ($batch_id, $submission, $shard, $stray, $status, $created_at, $expires_at, $input_file_id, $reserved, $now)

-- name: update_batch
UPDATE batches
-- What was known once is not forgotten: an answer without it (ours for a batch that is gone) says nothing.
SET status = $status, expires_at = coalesce($expires_at, expires_at), finished_at = coalesce($finished_at, finished_at),
    total = greatest($total, total), completed = greatest($completed, completed), failed = greatest($failed, failed),
    output_file_id = coalesce($output_file_id, output_file_id), error_file_id = coalesce($error_file_id, error_file_id),
    usage_input = coalesce($usage_input, usage_input), usage_cached = coalesce($usage_cached, usage_cached),
    usage_output = coalesce($usage_output, usage_output), errors = coalesce($errors, errors), missing_since = NULL
WHERE batch_id = $batch_id

-- name: end_batch
UPDATE batches SET ended_at = $now WHERE batch_id = $batch_id AND ended_at IS NULL

-- name: settle_batch
UPDATE batches SET settled_at = $now WHERE batch_id = $batch_id AND settled_at IS NULL

-- name: delay_batch
UPDATE batches SET retry_at = $until, read_first_at = coalesce(read_first_at, $now) WHERE batch_id = $batch_id

-- name: siblings
-- Other batches of a shard: those that are not settled, and all.
SELECT count(*) FILTER (settled_at IS NULL), count(*) FROM batches WHERE shard = $shard AND batch_id <> $batch_id

-- name: fall_due
UPDATE artists SET state = $target, wait_until = NULL
WHERE priority = $priority AND shard IS NULL AND (wait_until <= $now OR wait_until > $latest)
  AND list_contains($sources, state)

-- name: loose_to_gather
SELECT artist_id, custom_id, priority, data, tokens, line_hash, version FROM artists
WHERE shard IS NULL AND state = 'ready' AND priority = $priority AND version IS NOT NULL
  AND version = (SELECT min(version) FROM artists
                 WHERE shard IS NULL AND state = 'ready' AND priority = $priority AND version IS NOT NULL)
ORDER BY seq LIMIT $most

-- name: refuse_line
UPDATE artists
SET state = $target, submission = NULL, attempts = attempts + 1, failure = $failure, code = $code, message = $message
WHERE custom_id = $custom_id AND submission = $submission AND list_contains($sources, state)

-- name: record_refused_line
INSERT INTO attempts (artist_id, lane, shard, batch_id, outcome, code, message, counted, cost_usd, happened_at)
SELECT artist_id, 'batch', shard, $batch_id, failure, code, message, true, 0, $now FROM artists
WHERE custom_id = $custom_id

-- name: dead_by_code
SELECT count(*) FROM artists WHERE state = 'dead' AND failure = $failure AND code = $code

-- name: progress
-- Lines released, lines settled, and lines that unsettled batches have done.
SELECT (SELECT count(*) FROM artists AS a LEFT JOIN shards AS s USING (shard)
        WHERE a.version IS NOT NULL AND (s.state IS NULL OR s.state <> 'planned')),
       (SELECT count(*) FROM artists WHERE state IN ('done', 'dead', 'held')),
       (SELECT coalesce(sum(completed + failed), 0) FROM batches WHERE settled_at IS NULL)::BIGINT

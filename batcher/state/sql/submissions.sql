-- name: submission_of_file
SELECT max(submission) FROM submissions WHERE file_id = $file_id AND create_intended_at IS NOT NULL

-- name: submissions_at_service
-- Open creates. One whose input file we were deleting, and whose batch is not known, is known to no service.
SELECT submission, file_id, batch_id FROM submissions
WHERE outcome IS NULL AND create_intended_at IS NOT NULL AND (batch_id IS NOT NULL OR delete_intended_at IS NULL)
ORDER BY submission

-- name: claim_lines
UPDATE artists SET state = $target, submission = $submission
WHERE shard = $shard AND list_contains($sources, state)

-- name: set_submission_batch
UPDATE submissions SET batch_id = $batch_id WHERE submission = $submission

-- name: intend_delete
UPDATE submissions SET delete_intended_at = $now WHERE submission = $submission

-- name: set_absent_since
UPDATE submissions SET absent_since = $at, absent_since_local = $now WHERE submission = $submission

-- name: first_unclear_look
SELECT min(happened_at) FROM events WHERE kind = 'search_unclear' AND submission = $submission

-- name: end_submission
UPDATE submissions SET ended_at = coalesce(ended_at, $now), outcome = $outcome WHERE submission = $submission

-- name: end_submission_tokens
UPDATE submissions SET ended_at = coalesce(ended_at, $now) WHERE submission = $submission

-- name: run
SELECT run_id, created_at FROM runs

-- name: submission
SELECT submission, shard, lines, tokens, reserved, file_id, file_created_at, batch_id, intended_at, create_intended_at,
       absent_since, absent_since_local, cancel_wanted_at, outcome, delete_intended_at
FROM submissions WHERE submission = $submission

-- name: reopen_submission
UPDATE submissions SET ended_at = NULL, outcome = NULL WHERE submission = $submission

-- name: wish_cancel_of_submission
UPDATE submissions SET cancel_wanted_at = coalesce(cancel_wanted_at, $now)
WHERE submission = (SELECT submission FROM shards WHERE shard = $shard)

-- name: highest_submission
SELECT coalesce(max(submission), 0) FROM submissions

-- name: submissions_since
SELECT n.shard, s.priority, n.batch_id, n.lines, n.tokens, n.reserved, n.headroom_after, n.limit_tokens, n.reserved_before
FROM submissions AS n JOIN shards AS s USING (shard) WHERE n.submission > $after ORDER BY n.submission

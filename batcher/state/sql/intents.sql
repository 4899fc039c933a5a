-- name: insert_submission
INSERT INTO submissions (submission, shard, lines, tokens, reserved, limit_tokens, reserved_before, headroom_after,
                         reserved_usd, intended_at)
SELECT coalesce(max(submission), 0) + 1, $shard, $lines, $tokens, $reserved, $limit_tokens, $reserved_before,
       $headroom_after, $reserved_usd, $now
FROM submissions
RETURNING submission

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

-- name: record_unproven_lines
-- By these a batch that is found later knows its lines, whichever shard holds them by then.
INSERT INTO attempts (artist_id, lane, shard, submission, outcome, code, message, counted, happened_at, version)
SELECT artist_id, 'batch', shard, submission, 'missing', 'perhaps_paid', $message, false, $now, version
FROM artists WHERE submission = $submission

-- name: hold_unproven_lines
UPDATE artists
SET state = $target, submission = NULL, failure = 'missing', code = 'perhaps_paid',
    message = $message
WHERE submission = $submission AND list_contains($sources, state)

-- name: set_create_intended
UPDATE submissions SET create_intended_at = $now, file_id = $file_id, file_created_at = $created_at
WHERE submission = $submission

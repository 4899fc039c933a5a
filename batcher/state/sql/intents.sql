-- name: active_shards
SELECT shard, priority, state, lines, tokens, CASE WHEN wait_until > $latest THEN 0 ELSE wait_until END, submission, version
FROM shards
WHERE state NOT IN ('planned', 'settled', 'stale', 'split')

-- name: open_batches
-- `cancels`: to be cancelled, and the service was not asked yet. `held_back`: another batch of its shard is not settled,
-- and is read first, because this one decides the lines.
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

-- name: set_create_intended
UPDATE submissions SET create_intended_at = $now, file_id = $file_id, file_created_at = $created_at
WHERE submission = $submission

-- name: open_pauses
SELECT scope, reason, since, CASE WHEN until > $latest THEN 0 ELSE until END, tries FROM pauses WHERE ended_at IS NULL

-- name: quota_paused_until
-- When the last quota pause ended, or will end.
SELECT max(over) FROM (SELECT least(until, coalesce(ended_at, until)) AS over FROM pauses WHERE reason = 'quota')
WHERE over <= $latest

-- name: end_pauses
UPDATE pauses SET ended_at = $now WHERE ended_at IS NULL AND ($reasons IS NULL OR list_contains($reasons, reason)) RETURNING pause

-- name: insert_pause
INSERT INTO pauses (pause, scope, reason, since, until, tries)
SELECT coalesce(max(pause), 0) + 1, $scope, $reason, $now, $until, $tries FROM pauses

-- name: insert_quota_sample
INSERT INTO quota_samples (happened_at, source, model, limit_tokens, reserved, own, headroom, shard, detail)
VALUES ($now, $source, $model, $limit_tokens, $reserved, $own, $headroom, $shard, $detail)

-- name: end_probed_pauses
-- A quota pause ends once something that was sent after it has succeeded.
UPDATE pauses SET ended_at = $now
WHERE ended_at IS NULL AND reason = 'quota' AND (until > $latest OR until <= $sent_at)

-- name: end_pauses_over
UPDATE pauses SET ended_at = $now WHERE ended_at IS NULL AND scope = 'direct' AND until <= $now RETURNING pause

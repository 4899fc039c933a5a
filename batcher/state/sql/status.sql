-- name: shards_by_state
SELECT state, count(*), sum(lines)::BIGINT, sum(tokens)::BIGINT FROM shards
WHERE state NOT IN ('stale', 'split') GROUP BY state ORDER BY state

-- name: batches_in_flight
SELECT b.batch_id, b.shard, s.priority, b.status, b.total, b.completed, b.failed, b.stray, b.created_at, b.recorded_at,
       s.lines, b.retry_at
FROM batches AS b JOIN shards AS s USING (shard)
WHERE b.settled_at IS NULL ORDER BY b.created_at

-- name: count_by_priority
-- The last numbers: those whose bio was asked for again; the earlier one is there. And those that wait for the answer to
-- another line.
SELECT priority, state, count(*), count(redo_after), count(follows) FILTER (state = 'ready') FROM artists GROUP BY ALL ORDER BY priority, state

-- name: failures_by_class
SELECT outcome, code, count(*), count(*) FILTER (counted), max(happened_at) FROM attempts
WHERE outcome NOT IN ('bio', 'repeated') GROUP BY ALL ORDER BY 3 DESC, 1, 2

-- name: lost_by_class
SELECT state, failure, code, count(*) FROM artists WHERE state IN ('dead', 'held', 'skipped')
GROUP BY ALL ORDER BY 1, 4 DESC

-- name: who_waits
SELECT failure, count(*), min(wait_until), max(wait_until) FROM artists WHERE state = 'waiting'
GROUP BY failure ORDER BY 3

-- name: shards_waiting
SELECT shard, state, wait_until FROM shards
WHERE wait_until > $now AND state IN ('released', 'uploading', 'uploaded', 'creating') ORDER BY wait_until

-- name: artist
SELECT artist_id, artist_name, priority, state, custom_id, shard, submission, wait_until, attempts, failure, code, message,
       tokens, data, redo_after IS NOT NULL, follows
FROM artists WHERE artist_id = $artist_id

-- name: has_artist
SELECT count(*) FROM artists WHERE artist_id = $artist_id

-- name: similar_artists
SELECT artist_id, artist_name FROM artists
WHERE contains(lower(artist_id), lower($text)) OR contains(lower(artist_name), lower($text)) ORDER BY seq LIMIT 5

-- name: artist_attempts
SELECT happened_at, lane, shard, batch_id, outcome, code, message, counted, tokens_input, tokens_output, cost_usd
FROM attempts WHERE artist_id = $artist_id ORDER BY happened_at

-- name: artist_bio
SELECT data, model, finish_reason, lane, shard, batch_id, attempts, completed_at, cost_usd FROM bios
WHERE artist_id = $artist_id

-- name: artist_events
-- The artist's own, and those of its shards that are of no other artist.
SELECT e.happened_at, e.kind, e.shard, e.batch_id, e.detail FROM events AS e
WHERE e.artist_id = $artist_id
   OR (e.artist_id IS NULL
       AND e.shard IN (SELECT shard FROM attempts WHERE artist_id = $artist_id
                       UNION SELECT shard FROM artists WHERE artist_id = $artist_id))
ORDER BY e.event

-- name: quota_history
-- The newest samples, the oldest of them first.
SELECT happened_at, source, model, limit_tokens, reserved, own, headroom, shard, detail
FROM (SELECT * FROM quota_samples ORDER BY happened_at DESC LIMIT $most) ORDER BY happened_at

-- name: room_refusals
-- How often the service refused for its limit, when last, what was in flight then, and the limit that it named.
SELECT count(*), max(happened_at), max_by(reserved, happened_at), max_by(limit_tokens, happened_at)
FROM quota_samples WHERE source = 'refusal' AND reserved IS NOT NULL AND happened_at <= $now

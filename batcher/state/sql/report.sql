-- name: shards_by_state
SELECT state, count(*), sum(lines)::BIGINT, sum(tokens)::BIGINT FROM shards
WHERE state NOT IN ('stale', 'split') GROUP BY state ORDER BY state

-- name: batches_in_flight
SELECT b.batch_id, b.shard, s.priority, b.status, b.total, b.completed, b.failed, b.stray, b.created_at, b.recorded_at,
       s.lines, b.retry_at
FROM batches AS b JOIN shards AS s USING (shard)
WHERE b.settled_at IS NULL ORDER BY b.created_at

-- name: count_by_priority
SELECT priority, state, count(*) FROM artists GROUP BY ALL ORDER BY priority, state

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

-- name: money_by_shard
-- What the tries of each shard (of one artist, where one is named) have cost: bios, dollars, dollars without a bio,
-- tries whose price was not known, and the tokens that went at batch rates.
SELECT t.shard, s.version, count(*) FILTER (t.outcome = 'bio'), coalesce(sum(t.cost_usd), 0),
       coalesce(sum(t.cost_usd) FILTER (t.outcome <> 'bio'), 0),
       count(*) FILTER (t.cost_usd IS NULL AND t.tokens_input > 0),
       coalesce(sum(t.tokens_input) FILTER (t.lane = 'batch'), 0)::BIGINT,
       coalesce(sum(t.tokens_cached) FILTER (t.lane = 'batch'), 0)::BIGINT,
       coalesce(sum(t.tokens_output) FILTER (t.lane = 'batch'), 0)::BIGINT
FROM attempts AS t LEFT JOIN shards AS s USING (shard)
WHERE $artist_id IS NULL OR t.artist_id = $artist_id
GROUP BY t.shard, s.version

-- name: reserved_by_shard
-- What `money` counts as in flight, by shard (none: the direct lane); of one artist, where one is named. A reservation
-- of nothing is one of an unknown price.
SELECT shard, CASE WHEN bool_or(usd = 0) THEN NULL ELSE sum(usd) END FROM (
    SELECT shard, CASE WHEN $artist_id IS NULL THEN usd ELSE usd / lines END AS usd FROM (
        SELECT shard, reserved_usd AS usd, lines FROM submissions WHERE outcome IS NULL
        UNION ALL
        SELECT n.shard, n.reserved_usd, n.lines FROM batches AS b JOIN submissions AS n USING (submission)
        WHERE b.stray AND b.settled_at IS NULL
    )
    WHERE $artist_id IS NULL
       OR shard IN (SELECT shard FROM artists WHERE artist_id = $artist_id AND state IN ('in_batch', 'held'))
    UNION ALL
    SELECT n.shard, n.reserved_usd / n.lines
    FROM batches AS b JOIN submissions AS n USING (submission) JOIN attempts AS t ON t.batch_id = b.batch_id
    JOIN artists AS a USING (artist_id)
    WHERE b.settled_at IS NOT NULL AND (b.stray OR n.outcome IS NOT NULL) AND t.outcome = 'missing'
      AND a.failure = 'missing' AND a.state IN ('held', 'ready', 'waiting')
      AND ($artist_id IS NULL OR a.artist_id = $artist_id)
    UNION ALL
    SELECT NULL, reserved_usd FROM direct_calls
    WHERE (ended_at IS NULL OR outcome = 'lost') AND ($artist_id IS NULL OR artist_id = $artist_id)
)
GROUP BY shard

-- name: files_left
SELECT file_id, purpose, shard, tries, error FROM remote_files WHERE deleted_at IS NULL ORDER BY since

-- name: artist
SELECT artist_id, artist_name, priority, state, custom_id, shard, submission, wait_until, attempts, failure, code, message,
       tokens, data
FROM artists WHERE artist_id = $artist_id

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
SELECT e.happened_at, e.kind, e.shard, e.batch_id, e.detail FROM events AS e
WHERE e.artist_id = $artist_id
   OR e.shard IN (SELECT shard FROM attempts WHERE artist_id = $artist_id
                  UNION SELECT shard FROM artists WHERE artist_id = $artist_id)
ORDER BY e.event

-- name: collected_states
SELECT count(*) FILTER (state IN ('done', 'done_before')), count(*) FILTER (state = 'dead'),
       count(*) FILTER (state = 'held'),
       count(*) FILTER (state IN ('ready', 'waiting', 'in_batch', 'in_direct')), count(*) FILTER (state = 'skipped')
FROM artists

-- name: mark_collected
UPDATE bios SET collected_at = $now WHERE collected_at IS NULL

-- name: highest_submission
SELECT coalesce(max(submission), 0) FROM submissions

-- name: submissions_since
SELECT n.shard, s.priority, n.batch_id, n.lines, n.tokens, n.reserved, n.headroom_after, n.limit_tokens, n.reserved_before
FROM submissions AS n JOIN shards AS s USING (shard) WHERE n.submission > $after ORDER BY n.submission

-- name: shards_not_sent
SELECT shard FROM shards WHERE state IN ('released', 'uploaded') ORDER BY priority, shard

-- name: count_planned
SELECT count(*) FROM shards WHERE state = 'planned'

-- name: quota_history
-- The newest samples, the oldest of them first.
SELECT * FROM (SELECT * FROM quota_samples ORDER BY happened_at DESC LIMIT $most) ORDER BY happened_at

-- name: room_refusals
-- How often the service refused for its limit, when last, what was in flight then, and the limit that it named.
SELECT count(*), max(happened_at), max_by(reserved, happened_at), max_by(limit_tokens, happened_at)
FROM quota_samples WHERE source = 'refusal' AND reserved IS NOT NULL AND happened_at <= $now

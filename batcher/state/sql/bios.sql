-- name: collected_states
-- A line whose bio was asked for again has a bio (`redo_after` is set), whatever becomes of the new one.
SELECT count(*) FILTER (state IN ('done', 'done_before')), count(*) FILTER (state = 'dead' AND redo_after IS NULL),
       count(*) FILTER (state = 'held' AND redo_after IS NULL),
       count(*) FILTER (state IN ('ready', 'waiting', 'in_batch', 'in_direct') AND redo_after IS NULL),
       count(*) FILTER (state = 'skipped'), count(*) FILTER (state = 'dead' AND redo_after IS NOT NULL),
       count(*) FILTER (state = 'held' AND redo_after IS NOT NULL),
       count(*) FILTER (state IN ('ready', 'waiting', 'in_batch', 'in_direct') AND redo_after IS NOT NULL)
FROM artists

-- name: count_new_bios
-- A negative time is that of a file that was written and perhaps not moved into place: see `mark_written`.
SELECT count(*) FROM bios WHERE coalesce(collected_at, -1) < 0

-- name: failed_artists
SELECT a.artist_id, a.artist_name, a.priority, a.state, a.failure AS class, a.code, a.message, a.shard, a.attempts
FROM artists AS a WHERE a.state IN ('dead', 'held', 'skipped') AND a.redo_after IS NULL
ORDER BY a.priority, a.seq

-- name: mark_written
-- The intent: these bios are in a file that is about to be moved into place.
UPDATE bios SET collected_at = -$now WHERE coalesce(collected_at, -1) < 0

-- name: mark_collected
-- The outcome. Bios that another collect has written meanwhile bear its own time.
UPDATE bios SET collected_at = $now WHERE collected_at = -$written_at

-- name: vector_length
-- The row is chosen first: the JSON of thousands of vectors is more than the memory.
SELECT json_array_length(data, '$.embedding') FROM (SELECT data FROM bios WHERE version = $version LIMIT 1)

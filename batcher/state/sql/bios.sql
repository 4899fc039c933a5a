-- name: collected_states
SELECT count(*) FILTER (state IN ('done', 'done_before')), count(*) FILTER (state = 'dead'),
       count(*) FILTER (state = 'held'),
       count(*) FILTER (state IN ('ready', 'waiting', 'in_batch', 'in_direct')), count(*) FILTER (state = 'skipped')
FROM artists

-- name: count_new_bios
-- A negative time is that of a file that was written and perhaps not moved into place: see `mark_written`.
SELECT count(*) FROM bios WHERE coalesce(collected_at, -1) < 0

-- name: failed_artists
SELECT a.artist_id, a.artist_name, a.priority, a.state, a.failure AS class, a.code, a.message, a.shard, a.attempts
FROM artists AS a WHERE a.state IN ('dead', 'held', 'skipped')
ORDER BY a.priority, a.seq

-- name: mark_written
-- The intent: these bios are in a file that is about to be moved into place.
UPDATE bios SET collected_at = -$now WHERE coalesce(collected_at, -1) < 0

-- name: mark_collected
-- The outcome. Bios that another collect has written meanwhile bear its own time.
UPDATE bios SET collected_at = $now WHERE collected_at = -$written_at

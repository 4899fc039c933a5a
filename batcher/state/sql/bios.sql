-- name: collected_states
SELECT count(*) FILTER (state IN ('done', 'done_before')), count(*) FILTER (state = 'dead'),
       count(*) FILTER (state = 'held'),
       count(*) FILTER (state IN ('ready', 'waiting', 'in_batch', 'in_direct')), count(*) FILTER (state = 'skipped')
FROM artists

-- name: count_new_bios
SELECT count(*) FROM bios WHERE collected_at IS NULL

-- name: failed_artists
SELECT a.artist_id, a.artist_name, a.priority, a.state, a.failure AS class, a.code, a.message, a.shard, a.attempts
FROM artists AS a WHERE a.state IN ('dead', 'held', 'skipped')
ORDER BY a.priority, a.seq

-- name: mark_collected
UPDATE bios SET collected_at = $now WHERE collected_at IS NULL

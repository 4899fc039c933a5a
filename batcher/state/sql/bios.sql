-- name: tables_read
SELECT text FROM facts WHERE starts_with(name, 'table ') ORDER BY name

-- name: collected_states
SELECT count(*) FILTER (state IN ('done', 'done_before')), count(*) FILTER (state = 'dead'),
       count(*) FILTER (state = 'held'),
       count(*) FILTER (state IN ('ready', 'waiting', 'in_batch', 'in_direct')), count(*) FILTER (state = 'skipped')
FROM artists

-- name: mark_collected
UPDATE bios SET collected_at = $now WHERE collected_at IS NULL

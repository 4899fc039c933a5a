-- name: planned_rows
SELECT artist_id, custom_id, artist_name, priority, data, state, version FROM artists
WHERE list_contains($artist_ids, artist_id) AND state <> 'skipped'

-- name: most_urgent_row
SELECT artist_id, custom_id, artist_name, priority, data, state, version FROM artists
WHERE state <> 'skipped' ORDER BY state NOT IN ('ready', 'waiting'), priority, seq LIMIT 1

-- name: count_to_send
SELECT count(*) FROM artists WHERE state IN ('ready', 'waiting') AND follows IS NULL

-- name: rows_by_length
SELECT artist_id, custom_id, artist_name, priority, data, state, version FROM (
    SELECT *, row_number() OVER (ORDER BY length(data), seq) AS rank FROM artists
    WHERE state IN ('ready', 'waiting') AND follows IS NULL
) WHERE list_contains($ranks, rank) ORDER BY rank

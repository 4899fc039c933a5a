-- name: create_matching
-- The artists whose collected rows fulfil the user's condition.
CREATE TEMP TABLE matching (artist_id VARCHAR)

-- name: parse_query
SELECT json_serialize_sql($query::VARCHAR)

-- name: choose_redos
-- Bios by their artists, prompt or condition. Where none is named: lines whose bio was revoked and which have none.
CREATE TEMP TABLE asked_again AS
SELECT row_number() OVER (ORDER BY seq) AS n, seq, artist_id, state, failure, version FROM artists
WHERE (state IN ('done', 'done_before') AND NOT $revoked
       OR state = 'held' AND code = 'revoked' AND $prompt IS NULL AND NOT $by_condition)
  AND ($artists IS NULL OR list_contains($artists, artist_id))
  AND ($prompt IS NULL
       OR artist_id IN (SELECT b.artist_id FROM bios AS b JOIN versions AS v USING (version) WHERE v.prompt = $prompt))
  AND (NOT $by_condition OR artist_id IN (SELECT artist_id FROM matching))

-- name: redone_bios
-- The bios that are asked for again, how many of them have a known price, and what those have cost.
SELECT count(*), count(b.cost_usd), coalesce(sum(b.cost_usd), 0)
FROM asked_again AS q JOIN bios AS b USING (artist_id)

-- name: forget_all_tries
UPDATE attempts SET counted = false
FROM asked_again AS q WHERE attempts.artist_id = q.artist_id AND attempts.counted

-- name: redo_lines
-- `redo_after` marks a line that has a bio and takes another one; one whose bio was revoked has none. Answers of the shards
-- and calls that exist now are of the bio that exists.
UPDATE artists
SET state = $target, shard = NULL, attempts = 0, failure = NULL, code = NULL, message = NULL,
    redo_after = CASE WHEN $keeps_bio THEN (SELECT coalesce(max(shard), 0) FROM shards) END,
    redo_call = (SELECT coalesce(max(call), 0) FROM direct_calls)
FROM asked_again AS q
WHERE artists.seq = q.seq AND artists.artist_id = q.artist_id AND list_contains($sources, artists.state)

-- name: note_redos
INSERT INTO events (happened_at, kind, artist_id, detail)
SELECT $now, 'redo', artist_id, 'was ' || state || CASE WHEN state = 'held' THEN ', revoked' ELSE '' END FROM asked_again

-- name: unfit_artists
SELECT u.artist_id, a.state FROM (SELECT unnest($artists) AS artist_id) AS u LEFT JOIN artists AS a USING (artist_id)
WHERE a.artist_id IS NULL
   OR NOT (a.state IN ('done', 'done_before') OR a.state = 'held' AND a.code = 'revoked')
ORDER BY a.state IS NOT NULL, 1

-- name: insert_wish
INSERT INTO wishes (shard, made_at)
SELECT $shard, $now WHERE NOT EXISTS (SELECT 1 FROM wishes WHERE shard = $shard AND ended_at IS NULL)

-- name: end_wishes
UPDATE wishes SET ended_at = $now, outcome = $outcome WHERE shard = $shard AND ended_at IS NULL

-- name: hold_loose_lines
UPDATE artists SET state = $target, wait_until = NULL, failure = coalesce(failure, 'cancelled'),
                   code = coalesce(code, 'cancelled_here'), message = coalesce(message, 'cancelled before it was sent')
WHERE shard IS NULL AND version IS NOT NULL AND list_contains($sources, state)

-- name: cancelled_shards
SELECT w.shard, w.outcome, count(a.artist_id) FILTER (a.state = 'done'), count(a.artist_id) FILTER (a.state = 'held')
FROM wishes AS w LEFT JOIN artists AS a USING (shard)
WHERE list_contains($shards, w.shard) AND w.made_at >= $since GROUP BY ALL ORDER BY w.shard

-- name: choose_retries
-- Lines that wait for the user. What is perhaps paid is chosen only when its class is named.
CREATE TEMP TABLE asked_again AS
SELECT row_number() OVER (ORDER BY seq) AS n, seq, artist_id, state, failure, version FROM artists
WHERE list_contains($states, state)
  AND ($failure IS NULL OR failure = $failure)
  AND ($artist_id IS NULL OR artist_id = $artist_id)
  AND ($code IS NULL OR code = $code)
  AND (failure <> 'missing' OR coalesce($failure, '') = 'missing')

-- name: count_retries
SELECT state, failure, count(*) FROM asked_again GROUP BY ALL ORDER BY ALL

-- name: perhaps_paid
SELECT count(*) FROM artists
WHERE state = 'held' AND failure = 'missing' AND follows IS NULL AND ($artist_id IS NULL OR artist_id = $artist_id)

-- name: forget_tries
-- Earlier tries count no more for the class that the line ended with.
UPDATE attempts SET counted = false
FROM asked_again AS r
WHERE attempts.artist_id = r.artist_id AND attempts.outcome = r.failure AND attempts.counted

-- name: bring_back_lines
UPDATE artists
SET state = $target, shard = NULL,
    attempts = (SELECT count(*) FROM attempts AS t WHERE t.artist_id = artists.artist_id AND t.counted)
FROM asked_again AS r
WHERE artists.artist_id = r.artist_id AND list_contains($sources, artists.state)

-- name: note_retries
INSERT INTO events (happened_at, kind, artist_id, detail)
SELECT $now, 'retry', artist_id, 'was ' || state || ' after ' || failure FROM asked_again

-- name: create_table_ids
CREATE TEMP TABLE table_ids (artist_id VARCHAR)

-- name: choose_unsent
-- Named artists, or (where none are) those that have not ended and are not in the table. What was sent, or perhaps was, has
-- an execution or a call, is under way, or has ended.
CREATE TEMP TABLE chosen AS
SELECT artist_id, state, shard,
       state IN ('in_batch', 'in_direct', 'done', 'dead') OR coalesce(failure, '') = 'missing' OR redo_after IS NOT NULL
       OR artist_id IN (SELECT artist_id FROM attempts) OR artist_id IN (SELECT artist_id FROM direct_calls) AS was_sent
FROM artists
WHERE CASE WHEN $artist_ids IS NOT NULL THEN list_contains($artist_ids, artist_id)
           ELSE state NOT IN ('skipped', 'done_before') AND artist_id NOT IN (SELECT artist_id FROM table_ids) END

-- name: chosen_artists
SELECT artist_id, state, was_sent FROM chosen

-- name: count_chosen
SELECT count(DISTINCT artist_id) FILTER (NOT was_sent),
       count(DISTINCT shard) FILTER (NOT was_sent AND s.state = 'planned'),
       count(DISTINCT shard) FILTER (NOT was_sent AND s.state IN ('released', 'uploaded')),
       count(DISTINCT artist_id) FILTER (was_sent)
FROM chosen AS c LEFT JOIN shards AS s USING (shard)

-- name: shards_of_chosen
SELECT shard, state FROM shards
WHERE state IN ('planned', 'released', 'uploaded') AND shard IN (SELECT shard FROM chosen WHERE NOT was_sent)
ORDER BY shard

-- name: note_forgotten
INSERT INTO events (happened_at, kind, artist_id, detail)
SELECT $now, 'forget', artist_id, 'was ' || state FROM chosen WHERE NOT was_sent

-- name: delete_forgotten_pilot_lines
DELETE FROM pilot_lines WHERE artist_id IN (SELECT artist_id FROM chosen WHERE NOT was_sent)

-- name: delete_forgotten
DELETE FROM artists WHERE artist_id IN (SELECT artist_id FROM chosen WHERE NOT was_sent)

-- name: insert_event
INSERT INTO events (happened_at, kind, shard, submission, batch_id, artist_id, detail)
VALUES ($at, $kind, $shard, $submission, $batch_id, $artist_id, nullif($detail, ''))

-- name: move_shard
-- A shard names its open submission in the states that have one, and in no other state. It waits in the state for which
-- the wait was set: what a search waits for does not delay the batch that it finds.
UPDATE shards
SET state = $target, wait_until = 0,
    submission = CASE WHEN $target IN ('uploading', 'creating', 'in_flight', 'ended')
                      THEN coalesce($submission, submission) END
WHERE shard = $shard AND list_contains($sources, state)

-- name: facts
SELECT name, number, text FROM facts

-- name: write_fact
UPDATE facts SET number = $number, text = $text WHERE name = $fact

-- name: insert_fact
INSERT INTO facts VALUES ($fact, $number, $text)

-- name: is_planned
-- The tables artists and shards are named so that the statement fails for a file without them, which is foreign.
SELECT 1 FROM meta, runs
WHERE meta.key = 'schema_version' AND meta.value = $version AND NOT EXISTS (SELECT 1 FROM artists, shards WHERE false)

-- name: hold_followers
-- Followers of lines that were held or given up become so with them.
UPDATE artists
SET state = $target, failure = l.failure, code = l.code,
    message = 'asks the same as ' || l.artist_id || ': ' || coalesce(l.message, '')
FROM artists AS l
WHERE artists.follows = l.artist_id AND artists.follows IS NOT NULL AND l.state = $target
  AND artists.request_hash = l.request_hash AND list_contains($sources, artists.state)
